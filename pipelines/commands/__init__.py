"""What `estimator-pipelines` can do: a module for each group of commands, options and all."""
