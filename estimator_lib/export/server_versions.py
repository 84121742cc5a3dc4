"""Which TensorFlow Serving loads a SavedModel: decided by the operations and versions in its graph.

Layer 3. TF Serving of release X.Y is built with TensorFlow X.Y, and refuses a graph with an
operation that its TensorFlow does not know. What each release added was read from the packages of
TensorFlow 2.4 to 2.21 (`tensorflow/_api/v2/raw_ops`); attributes that came later hold their
defaults, which a SavedModel leaves out. Only `needs` loads TensorFlow.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from estimator_lib.core.errors import ConfigError, ExportError, Reason

if TYPE_CHECKING:
    from tensorflow.core.framework import graph_pb2

OLDEST = "2.4"
"""What is known to all releases from this one on asks for no more than it."""
_OPERATIONS = {
    "2.5": (
        "CollectiveBcastRecvV2 CollectiveBcastSendV2 DataServiceDatasetV2 FinalizeDataset "
        "GetOptions LoadTPUEmbeddingFrequencyEstimatorParameters OptionsDataset "
        "ParallelBatchDataset RetrieveTPUEmbeddingFrequencyEstimatorParameters "
        "StatelessRandomGetAlg StatelessRandomGetKeyCounter"
    ),
    "2.6": (
        "BatchMatMulV3 CompositeTensorVariantFromComponents "
        "CompositeTensorVariantToComponents SnapshotDatasetReader SnapshotNestedDatasetReader "
        "SparseSegmentSumGrad"
    ),
    "2.7": (
        "AnonymousHashTable AssignVariableXlaConcatND CollectiveAllToAllV3 "
        "CollectiveInitializeCommunicator CollectiveReduceV3 GetElementAtIndex "
        "IsTPUEmbeddingInitialized LoadTPUEmbeddingAdagradMomentumParameters "
        "ReadVariableXlaSplitND RetrieveTPUEmbeddingAdagradMomentumParameters SaveDatasetV2 "
        "WindowOp XlaConcatND XlaSplitND"
    ),
    "2.8": (
        "AnonymousIteratorV3 AnonymousMutableDenseHashTable AnonymousMutableHashTable "
        "AnonymousMutableHashTableOfTensors DataServiceDatasetV3 "
        "DynamicEnqueueTPUEmbeddingArbitraryTensorBatch "
        "EnqueueTPUEmbeddingArbitraryTensorBatch TPUPartitionedInput TPUPartitionedOutput"
    ),
    "2.9": (
        "AnonymousMultiDeviceIteratorV3 AssertPrevDataset CollectiveAssignGroupV2 "
        "ParallelFilterDataset RandomIndexShuffle"
    ),
    "2.10": (
        "ApproxTopK DataServiceDatasetV4 DisableCopyOnRead ListDataset RegisterDatasetV2 "
        "RewriteDataset StatelessShuffle"
    ),
    "2.11": (
        "UniformDequantize UniformQuantize UniformQuantizedClipByValue UniformQuantizedDot "
        "UniformQuantizedDotHybrid UniformRequantize"
    ),
    "2.12": (
        "CollectiveReduceScatterV2 Conv2DBackpropFilterV2 Conv2DBackpropInputV2 "
        "DistributedSave RandomDatasetV2 SegmentProdV2 SegmentSumV2 StatelessRandomGammaV3 "
        "SyncDevice TPUPartitionedInputV2 TPUPartitionedOutputV2 UniformQuantizedAdd "
        "UniformQuantizedConvolution UniformQuantizedConvolutionHybrid"
    ),
    "2.13": (
        "CollectiveAllToAllV2 DebugIdentityV3 RaggedFillEmptyRows RaggedFillEmptyRowsGrad "
        "SegmentMaxV2 SegmentMinV2 SnapshotChunkDataset"
    ),
    "2.14": (
        "Conv SparseSegmentMeanGradV2 SparseSegmentSqrtNGradV2 SparseSegmentSumGradV2 "
        "TFRecordDatasetV2"
    ),
    "2.15": (
        "DynamicEnqueueTPUEmbeddingRaggedTensorBatch EmptyTensorMap FFTND "
        "FileSystemSetConfiguration IFFTND IRFFTND KMC2ChainInitialization "
        "KmeansPlusPlusInitialization NearestNeighbors RFFTND TensorMapErase TensorMapHasKey "
        "TensorMapInsert TensorMapLookup TensorMapSize TensorMapStackKeys"
    ),
    "2.16": (
        "ConvertToCooTensor DatasetFingerprint GetMinibatchSplitsWithPhysicalReplica "
        "GetMinibatchesInCsrWithPhysicalReplica GlobalIterId ListSnapshotChunksDataset "
        "StoreMinibatchStatisticsInFdo TPUAnnotateTensorsWithDynamicShape "
        "TPUCopyWithDynamicShape XlaSparseCoreAdagrad XlaSparseCoreAdagradMomentum "
        "XlaSparseCoreAdam XlaSparseCoreFtrl XlaSparseCoreSgd XlaSparseDenseMatmul "
        "XlaSparseDenseMatmulGradWithAdagradAndCsrInput "
        "XlaSparseDenseMatmulGradWithAdagradMomentumAndCsrInput "
        "XlaSparseDenseMatmulGradWithAdamAndCsrInput "
        "XlaSparseDenseMatmulGradWithFtrlAndCsrInput "
        "XlaSparseDenseMatmulGradWithSgdAndCsrInput XlaSparseDenseMatmulWithCsrInput"
    ),
    "2.17": (
        "ConvertToListOfSparseCoreCooTensors ConvertToSparseCoreCsrWrappedCooTensor "
        "GetStatsFromListOfSparseCoreCooTensors GlobalShuffleDataset IndexFlatMapDataset "
        "IteratorGetModelProto SortListOfSparseCoreCooTensors WeightedFlatMapDataset "
        "XlaSparseDenseMatmulGradWithAdagradAndStaticBufferSize "
        "XlaSparseDenseMatmulGradWithAdagradMomentumAndStaticBufferSize "
        "XlaSparseDenseMatmulGradWithAdamAndStaticBufferSize "
        "XlaSparseDenseMatmulGradWithFtrlAndStaticBufferSize "
        "XlaSparseDenseMatmulGradWithSgdAndStaticBufferSize "
        "XlaSparseDenseMatmulWithStaticBufferSize"
    ),
    "2.18": "CheckPinned XlaSparseDenseMatmulGradWithCsrInput",
    "2.20": (
        "DecodeWebP TPUDummyInput "
        "XlaSparseDenseMatmulCustomCombinerOnTcGradWithAdagradAndCsrInput "
        "XlaSparseDenseMatmulCustomCombinerOnTcGradWithAdagradMomentumAndCsrInput "
        "XlaSparseDenseMatmulCustomCombinerOnTcGradWithAdamAndCsrInput "
        "XlaSparseDenseMatmulCustomCombinerOnTcGradWithCsrInput "
        "XlaSparseDenseMatmulCustomCombinerOnTcGradWithFtrlAndCsrInput "
        "XlaSparseDenseMatmulCustomCombinerOnTcGradWithSgdAndCsrInput "
        "XlaSparseDenseMatmulCustomCombinerOnTcWithCsrInput"
    ),
    "2.21": "DecodeJxl",
}
"""What each release added, of what TensorFlow 2.21 knows."""
_GRAPHS = {
    "2.4": 561, "2.5": 716, "2.6": 808, "2.7": 898, "2.8": 987, "2.9": 1087, "2.10": 1205,
    "2.11": 1286, "2.12": 1395, "2.13": 1482, "2.14": 1575, "2.15": 1645, "2.16": 1766,
    "2.17": 1882, "2.18": 1994, "2.19": 2129, "2.20": 2288, "2.21": 2474,
}  # fmt: skip
"""The version of graphs that each release reads."""
_SINCE = {name: release for release, names in _OPERATIONS.items() for name in names.split()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Needs:
    """What a SavedModel asks of a server.

    Attributes:
        tensorflow: The oldest release of TensorFlow, and so of TF Serving, that loads it: "2.10".
        because: The operations that it has from this release, or what else asks for it.
    """

    tensorflow: str
    because: tuple[str, ...] = ()

    @property
    def order(self) -> tuple[int, int]:
        """What releases are compared by."""
        return _order(self.tensorflow)

    def refuse(self, release: str) -> None:
        """Refuses a server that is too old.

        Args:
            release: Of TF Serving, such as "2.19.1".

        Raises:
            ConfigError: it does not load this model, or is no release.
        """
        if _order(release) < self.order:
            raise ConfigError(
                f"TF Serving {release} cannot load this model: expected {self.tensorflow} or "
                f"later, for {', '.join(self.because)}. Use a newer server.",
                reason=Reason.UNSUPPORTED,
            )


def needs(directory: str | pathlib.Path) -> Needs:
    """Returns what a SavedModel asks of a server.

    Raises:
        ExportError: the directory holds no SavedModel, or one with operations that no TensorFlow
            has: a plain TF Serving cannot load it.
    """
    from estimator_lib.tensorflow_internals import op_def_registry, parse_saved_model

    try:
        saved = parse_saved_model(str(directory))
    except OSError as error:
        raise ExportError(
            f"SavedModel {directory} cannot be read: {str(error).splitlines()[0]}.",
            reason=Reason.CORRUPT_FILE,
        ) from error
    graphs = [graph.graph_def for graph in saved.meta_graphs]
    operations = {name for graph in graphs for name in _operations(graph)}
    own = {f.signature.name for graph in graphs for f in graph.library.function}
    strange = sorted(n for n in operations - own if op_def_registry.get(n) is None)
    if strange:
        raise ExportError(
            f"SavedModel {directory} has operations that TensorFlow does not: "
            f"{', '.join(strange)}. Serve it with a server that is built with them.",
            reason=Reason.UNSUPPORTED,
        )
    found: dict[str, list[str]] = {OLDEST: []}
    for name in sorted(operations & _SINCE.keys()):
        found.setdefault(_SINCE[name], []).append(name)
    graph = max(graph.versions.min_consumer for graph in graphs)
    reads = next((release for release, version in _GRAPHS.items() if version >= graph), None)
    if reads is not None and reads != OLDEST:
        found.setdefault(reads, []).append(f"graphs of version {graph}")
    newest = max(found, key=_order)
    return Needs(tensorflow=newest, because=tuple(found[newest]))


def _operations(graph: graph_pb2.GraphDef) -> Iterator[str]:
    for node in graph.node:
        yield node.op
    for function in graph.library.function:
        for node in function.node_def:
            yield node.op


def _order(release: str) -> tuple[int, int]:
    """Major and minor release as numbers."""
    found = re.fullmatch(r"(\d+)\.(\d+)(?:\.\w+)*(?:-\w+)?", release)
    if found is None:
        raise ConfigError(
            f"{release!r} is no release of TF Serving: expected one such as 2.19.1.",
        )
    return int(found[1]), int(found[2])
