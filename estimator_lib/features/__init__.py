"""Feature columns lowered to TensorFlow; every family registers how its kinds are."""

from estimator_lib.features import bucketized as bucketized
from estimator_lib.features import dates as dates
from estimator_lib.features import embeddings as embeddings
from estimator_lib.features import hashed as hashed
from estimator_lib.features import identity as identity
from estimator_lib.features import numeric as numeric
from estimator_lib.features import numeric_embeddings as numeric_embeddings
from estimator_lib.features import sequences as sequences
from estimator_lib.features import vocabulary as vocabulary
from estimator_lib.features import weighted as weighted
