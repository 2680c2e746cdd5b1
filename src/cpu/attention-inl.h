// The kernels of attention_kernels.h for one ISA. Included inside that ISA's namespace after its
// simd_*.h (simd_portable.h says how); no include guard.

#include "cpu/attention_rows-inl.h"
#include "cpu/attention_softmax-inl.h"
#include "cpu/attention_tile-inl.h"

static constexpr AttentionKernels kAttention = {
    .pack_rows = PackRows,
    .pack_tile = PackTile,
    .score_rows = {ScoreRows<F32Row>, ScoreRows<F16Row>, ScoreRows<BF16Row>, ScoreRows<Q8Row>},
    .mix_rows = {MixRows<F32Row>, MixRows<F16Row>, MixRows<BF16Row>, MixRows<Q8Row>},
    .score_gathered = {ScoreGathered<F32Row>, ScoreGathered<F16Row>, ScoreGathered<BF16Row>,
                       ScoreGathered<Q8Row>},
    .mix_gathered = {MixGathered<F32Row>, MixGathered<F16Row>, MixGathered<BF16Row>,
                     MixGathered<Q8Row>},
    .load_keys = {LoadKeys<F32Row>, LoadKeys<F16Row>, LoadKeys<BF16Row>, LoadKeys<Q8Row>},
    .load_values = {LoadValues<F32Row>, LoadValues<F16Row>, LoadValues<BF16Row>, LoadValues<Q8Row>},
    .score_tile = ScoreTile,
    .mix_tile = MixTile,
    .softmax = Softmax,
    .merge = MergeParts,
};
