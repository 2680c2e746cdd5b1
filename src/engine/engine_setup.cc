#include "engine/engine_setup.h"

#include <algorithm>
#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <string>

#include "base/check.h"
#include "base/math.h"
#include "base/system_memory.h"
#include "engine/engine_device.h"
#include "kv/page_pool.h"
#include "model/model_hash.h"

namespace tidal {
namespace {

// A sidecar has a few lines per plan; what is larger is another kind of file.
constexpr uintmax_t kMaxSidecarBytes = uintmax_t{16} << 20;

Status CheckRope(const EngineOptions& options) {
  const bool stretches = options.rope_scaling && *options.rope_scaling != RopeScalingKind::kNone;
  if (options.rope_scale != 1 && !stretches) {
    return InvalidArgument("--rope-scale is {}, expected --rope-scaling linear or yarn beside it",
                           options.rope_scale);
  }
  if (stretches && !(options.rope_scale > 1 && options.rope_scale <= kMaxRopeScale)) {
    return InvalidArgument("--rope-scale is {}, expected more than 1 and at most {}",
                           options.rope_scale, kMaxRopeScale);
  }
  if (options.yarn_orig_ctx != 0 && options.rope_scaling != RopeScalingKind::kYarn) {
    return InvalidArgument("--yarn-orig-ctx is {}, expected --rope-scaling yarn beside it",
                           options.yarn_orig_ctx);
  }
  if (options.rope_scaling && options.random_model)
    return InvalidArgument("--rope-scaling does not go with --shape, which has no trained RoPE");
  return OkStatus();
}

const char* NameOf(RopeScalingKind kind) {
  return kind == RopeScalingKind::kYarn     ? "yarn"
         : kind == RopeScalingKind::kLinear ? "linear"
                                            : "none";
}

}  // namespace

std::string RopeText(const EngineOptions& options) {
  if (!options.rope_scaling) return "";
  std::string text = fmt::format("--rope-scaling {}", NameOf(*options.rope_scaling));
  if (options.rope_scale != 1) text += fmt::format(" --rope-scale {}", options.rope_scale);
  if (options.yarn_orig_ctx != 0) text += fmt::format(" --yarn-orig-ctx {}", options.yarn_orig_ctx);
  return text;
}

Status OverrideRope(const EngineOptions& options, Model* model) {
  if (!options.rope_scaling) return OkStatus();
  RopeScaling scaling;
  scaling.kind = *options.rope_scaling;
  scaling.factor = static_cast<double>(options.rope_scale);
  scaling.original_seq_len = options.yarn_orig_ctx;
  if (scaling.kind == RopeScalingKind::kYarn) scaling.attn_factor = YarnAttnFactor(scaling.factor);
  const Status status = model->OverrideRope(scaling);
  if (status.ok()) return status;
  return InvalidArgument("{}: {}", RopeText(options), status.message());
}

Status CheckOptions(const EngineOptions& options) {
  TIDAL_CHECK(options.cache_tokens >= 0 && (options.cache_tokens == 0 || options.ctx_size > 0),
              "a cache of {} tokens for contexts of {}", options.cache_tokens, options.ctx_size);
  TIDAL_RETURN_IF_ERROR(CheckDevice(options.device));
  TIDAL_RETURN_IF_ERROR(CheckRope(options));
  if (options.num_threads < 0 || options.num_threads > 1024) {
    return InvalidArgument("--threads is {}, expected 1 to 1024", options.num_threads);
  }
  if (options.max_batch_tokens < 1 || options.max_batch_tokens > 65536) {
    return InvalidArgument("--batch-size is {}, expected 1 to 65536", options.max_batch_tokens);
  }
  if (options.index_bits != 0 && options.index_bits != 4 && options.index_bits != 2) {
    return InvalidArgument("--index-bits is {}, expected 4, 2, or 0 for auto", options.index_bits);
  }
  if (options.max_sequences < 1 || options.max_sequences > 4096) {
    return InvalidArgument("{} sequences asked for, expected 1 to 4096", options.max_sequences);
  }
  return OkStatus();
}

Result<int32_t> ChooseCtxSize(const EngineOptions& options, const Model& model,
                              const KeyIndexChoice& index) {
  const int32_t trained = model.config().trained_seq_len;
  if (options.ctx_size < 0)
    return InvalidArgument("--ctx-size is {}, expected 1 to {}", options.ctx_size, trained);
  if (options.ctx_size > trained && options.rope_scaling) {
    return InvalidArgument("--ctx-size is {}, but {} with {} takes at most {}", options.ctx_size,
                           options.model_path, RopeText(options), trained);
  }
  if (options.ctx_size > trained) {
    return InvalidArgument(
        "--ctx-size is {}, but {} was trained with a context of {}; ask for at most that, or "
        "stretch "
        "it with --rope-scaling",
        options.ctx_size, options.model_path, trained);
  }
  TIDAL_ASSIGN_OR_RETURN(const CacheRoom room, MeasureRoom(options, model, index));
  const auto [kv_page_bytes, index_page_bytes, available_bytes, num_pages] = room;
  // A cache of a given size is checked when its pages are counted.
  const int64_t fitting_pages =
      options.cache_tokens > 0 ? CeilDiv(trained, kPageSize) : num_pages / options.max_sequences;
  const auto fitting = static_cast<int32_t>(std::min<int64_t>(fitting_pages * kPageSize, trained));
  const int32_t wanted = options.ctx_size == 0 ? trained : options.ctx_size;
  if (wanted <= fitting) return wanted;
  if (options.ctx_size == 0 && fitting > 0) return fitting;
  const int64_t wanted_pages = CeilDiv(wanted, kPageSize) * options.max_sequences;
  const std::string index_part =
      index_page_bytes == 0
          ? ""
          : fmt::format(" and {} for its key index", FormatBytes(wanted_pages * index_page_bytes));
  return OutOfMemory(
      "a context of {} tokens needs {} for its KV cache{} beside {} of weights, but {} of memory "
      "are "
      "available; the largest context that fits is {}",
      wanted, FormatBytes(wanted_pages * kv_page_bytes), index_part,
      FormatBytes(model.weight_bytes()), FormatBytes(available_bytes), fitting);
}

Result<int32_t> ChooseNumPages(const EngineOptions& options, const Model& model,
                               const KeyIndexChoice& index) {
  if (options.cache_tokens == 0)
    return static_cast<int32_t>(CeilDiv(options.ctx_size, kPageSize)) * options.max_sequences;
  TIDAL_ASSIGN_OR_RETURN(const CacheRoom room, MeasureRoom(options, model, index));
  const int64_t wanted = CeilDiv(options.cache_tokens, kPageSize);
  if (wanted <= room.num_pages) return static_cast<int32_t>(wanted);
  return OutOfMemory(
      "a cache of {} tokens for {} sequences needs {} beside {} of weights, but {} of memory are "
      "available; use shorter contexts or fewer plans at a time",
      options.cache_tokens, options.max_sequences,
      FormatBytes(wanted * (room.kv_page_bytes + room.index_page_bytes)),
      FormatBytes(model.weight_bytes()), FormatBytes(room.available_bytes));
}

Result<std::optional<Sidecar>> ReadSidecar(const std::string& model_path, const Model& model,
                                           std::span<const EmbeddedText> built_in) {
  const std::string path = SidecarPath(model_path);
  const int32_t num_layers = model.config().num_layers;
  const int32_t num_kv_heads = model.config().num_kv_heads;
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    if (built_in.empty()) return std::optional<Sidecar>();
    TIDAL_ASSIGN_OR_RETURN(const std::string hash, ModelHash(model));
    return FindCalibration(built_in, hash, num_layers, num_kv_heads);
  }
  const uintmax_t size = std::filesystem::file_size(path, error);
  if (error) return IoError("{}: cannot read: {}", path, error.message());
  if (size > kMaxSidecarBytes) {
    return Corrupt("{}: {} bytes, expected a file of calibrated plans of at most {}", path, size,
                   kMaxSidecarBytes);
  }
  std::string text(static_cast<size_t>(size), '\0');
  std::ifstream file(path, std::ios::binary);
  if (!file.read(text.data(), static_cast<std::streamsize>(size)))
    return IoError("{}: cannot read its {} bytes", path, size);
  TIDAL_ASSIGN_OR_RETURN(const std::string hash, ModelHash(model));
  TIDAL_ASSIGN_OR_RETURN(Sidecar sidecar,
                         Sidecar::Parse(path, text, hash, num_layers, num_kv_heads));
  return std::optional<Sidecar>(std::move(sidecar));
}

}  // namespace tidal
