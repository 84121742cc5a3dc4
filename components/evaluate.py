"""The evaluate component: one pass over the eval split, a verdict and a report."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate(
    config: str,
    champion: str,
    code_version: str,
    examples: dsl.Input[dsl.Dataset],
    transform: dsl.Input[dsl.Artifact],
    statistics: dsl.Input[dsl.Artifact],
    model: dsl.Input[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    classification: dsl.Output[dsl.ClassificationMetrics],
    evaluation: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
    model_card: dsl.Output[dsl.Markdown],
) -> str:
    """Evaluates the model on the eval split, overall and by slice, and checks the thresholds.

    Args:
        config: An `EvaluatePart` as JSON.
        champion: The serving model to compare with: a version, or the directory of versions,
            of which the newest is taken; empty compares with none.
        code_version: Digest of the code; a part of the cache key.
        examples: What preprocess wrote.
        transform: What preprocess wrote.
        statistics: What preprocess wrote.
        model: What train wrote.
        metrics: Metrics of the whole eval split.
        classification: ROC curve and confusion matrix, for classification.
        evaluation: Everything as `evaluation.json`.
        report: A self-contained page.
        model_card: The short form in Markdown.

    Returns:
        blessed, refused or not_evaluated. It is the component's single value, for kfp.local
        evaluates conditions on outputs of that form only.
    """
    given = locals()
    from components.steps.step import run

    return run("evaluate", given)
