"""What the components do: a module per step, whose `run` takes what its component is given.

Kubeflow starts a step with `_KFP_RUNTIME` set, under which `kfp.dsl` can declare nothing: modules
here import no declaration. They import TensorFlow and Beam at their top, which declarations do not.
"""
