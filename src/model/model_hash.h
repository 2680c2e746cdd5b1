// A name for a model's content that takes no reading of all of it.
//
// Sidecars, built-in calibrations and saved caches are for one model: they carry this hash, so that
// none is used with another.
#ifndef TIDAL_MODEL_MODEL_HASH_H_
#define TIDAL_MODEL_MODEL_HASH_H_

#include <string>

#include "base/status.h"
#include "gguf/gguf_file.h"
#include "model/model.h"

namespace tidal {

// SHA-256, in 64 lower-case hex digits, of the file's bytes from the first to the end of the tensor
// directory (of a split model: those of all files, in their order), followed by the first 4 KiB of
// each tensor in the directory's order: all of it where it is smaller. A tensor whose type is not
// supported counts as reaching to the end of its file.
std::string ModelHash(const GgufFile& file);

// The same of a model's file, or HfFolder::ModelHash of its folder.
Result<std::string> ModelHash(const Model& model);

}  // namespace tidal

#endif  // TIDAL_MODEL_MODEL_HASH_H_
