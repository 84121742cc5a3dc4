"""Search for the arguments of any Estimator; who trains is a parameter."""
