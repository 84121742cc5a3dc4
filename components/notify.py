"""The notify component: how a run ended, told to the log and to a webhook."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def notify(status: dsl.PipelineTaskFinalStatus, pipeline: str, run: str) -> None:
    """Tells how a run ended. Its own failures are told in its log and change nothing.

    Args:
        status: Of everything inside the exit handler, as Kubeflow gives it.
        pipeline: Name of the pipeline.
        run: Identifier of the run.
    """
    given = locals()
    from components.steps import notify

    notify.run(**given)
