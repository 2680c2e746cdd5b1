// A step as the device is told of it: rows, sequences, pages and what each layer does with each
// sequence, in regions of the step's upload.
//
// Use: Reserve, then others that reserve, then ReserveLast, StepUpload::Allocate; Fill for every
// step. Threads: one.
#ifndef TIDAL_CUDA_STEP_TABLES_H_
#define TIDAL_CUDA_STEP_TABLES_H_

#include <cstdint>
#include <string>

#include "cuda/candidates.h"
#include "cuda/device_types.h"
#include "cuda/key_index.h"
#include "cuda/step_upload.h"
#include "scheduler/step_batch.h"

namespace tidal {

struct StepTablesOptions {
  int32_t num_layers = 0;
  int32_t gqa_ratio = 1;
  int32_t max_rows = 1;
  int32_t max_sequences = 1;
  int32_t num_pages = 0;
};

class StepTables {
 public:
  void Reserve(const StepTablesOptions& options, StepUpload* upload);
  // Page ids, the only long table: what a step does not use of them is not sent.
  void ReserveLast(StepUpload* upload);

  // Writes the host's side of all tables; returns how many bytes of the upload are used. `batch`
  // is alive until the next Fill.
  int64_t Fill(const StepBatch& batch);

  // Of the step at hand.
  DeviceStep StepOf(int32_t layer) const;
  const int32_t* tokens() const { return tokens_.device(); }        // [rows]
  const int32_t* positions() const { return positions_.device(); }  // [rows]
  const int32_t* slots() const { return slots_.device(); }          // [rows], where K and V go
  // [rows], nonzero: it fills a page, and its sequence has no other row.
  const uint8_t* row_seals() const { return row_seals_.device(); }
  // Those whose logits are wanted, then those whose best candidates are.
  const int32_t* output_rows() const { return output_rows_.device(); }
  // What is wanted of the latter, from the batch's `first` one on.
  const DeviceCandidateRow* candidate_rows(int64_t first) const {
    return candidate_rows_.device() + first;
  }
  const DeviceSeal* seals() const { return seals_.device(); }  // pages that other sequences fill
  int32_t num_seals() const { return num_seals_; }

  int32_t max_q_len() const { return max_q_len_; }
  bool has_decode() const { return has_decode_; }    // sequences for the kernels for few rows
  bool has_prefill() const { return has_prefill_; }  // others
  bool has_plans() const { return has_plans_; }
  bool sets_per_head() const { return sets_per_head_; }
  // Everything of the above that decides which kernels are launched with which parameters.
  std::string LaunchKey() const;

 private:
  void FillRows(const StepSequence& s);
  void FillFlags();

  StepTablesOptions options_;
  StepUpload::Region<DeviceSequence> sequences_;
  StepUpload::Region<uint8_t> flags_;  // [layers][max_sequences]
  StepUpload::Region<int32_t> tokens_;
  StepUpload::Region<int32_t> positions_;
  StepUpload::Region<int32_t> slots_;
  StepUpload::Region<uint8_t> row_seals_;
  StepUpload::Region<int32_t> output_rows_;
  StepUpload::Region<DeviceCandidateRow> candidate_rows_;
  StepUpload::Region<DeviceSeal> seals_;
  StepUpload::Region<int32_t> page_ids_;

  const StepBatch* batch_ = nullptr;
  int32_t max_q_len_ = 0;
  int32_t num_seals_ = 0;
  int32_t num_page_ids_ = 0;
  bool has_decode_ = false;
  bool has_prefill_ = false;
  bool has_plans_ = false;
  bool sets_per_head_ = false;
};

}  // namespace tidal

#endif  // TIDAL_CUDA_STEP_TABLES_H_
