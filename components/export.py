"""The export component: one SavedModel, checked against its trainer, then published."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def export(
    config: str,
    serving_dir: str,
    code_version: str,
    verdict: str,
    examples: dsl.Input[dsl.Dataset],
    transform: dsl.Input[dsl.Artifact],
    model: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact],
    saved_model: dsl.Output[dsl.Model],
) -> None:
    """Exports transform graph and model as one SavedModel and publishes it.

    The SavedModel is loaded in a fresh process and must give the trainer's own predictions on
    raw rows before it becomes the next version below `serving_dir`.

    Args:
        config: An `Export` as JSON.
        serving_dir: TF Serving base directory; empty publishes nowhere.
        code_version: Digest of the code; a part of the cache key.
        verdict: Of evaluate; anything but "blessed" is refused.
        examples: What preprocess wrote.
        transform: What preprocess wrote.
        model: What train wrote.
        evaluation: What evaluate wrote; it must be of this model.
        saved_model: The SavedModel.
    """
    given = locals()
    from components.steps.step import run

    run("export", given)
