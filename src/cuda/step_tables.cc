#include "cuda/step_tables.h"

#include <algorithm>
#include <fmt/format.h>

#include "base/math.h"
#include "cuda/attention.h"
#include "kv/page_pool.h"

namespace tidal {

void StepTables::Reserve(const StepTablesOptions& options, StepUpload* upload) {
  options_ = options;
  const int64_t max_rows = options.max_rows;
  sequences_ = upload->Reserve<DeviceSequence>(options.max_sequences);
  flags_ = upload->Reserve<uint8_t>(int64_t{options.num_layers} * options.max_sequences);
  tokens_ = upload->Reserve<int32_t>(max_rows);
  positions_ = upload->Reserve<int32_t>(max_rows);
  slots_ = upload->Reserve<int32_t>(max_rows);
  row_seals_ = upload->Reserve<uint8_t>(max_rows);
  output_rows_ = upload->Reserve<int32_t>(max_rows);
  candidate_rows_ = upload->Reserve<DeviceCandidateRow>(max_rows);
  seals_ = upload->Reserve<DeviceSeal>(options.max_sequences + max_rows / kPageSize);
}

void StepTables::ReserveLast(StepUpload* upload) {
  page_ids_ = upload->Reserve<int32_t>(int64_t{options_.max_sequences} * options_.num_pages);
}

DeviceStep StepTables::StepOf(int32_t layer) const {
  return {.sequences = sequences_.device(),
          .page_ids = page_ids_.device(),
          .flags = flags_.device() + int64_t{layer} * options_.max_sequences,
          .num_sequences = static_cast<int32_t>(batch_->sequences.size())};
}

void StepTables::FillRows(const StepSequence& s) {
  for (int32_t i = 0; i < s.q_len; ++i) {
    const auto row = static_cast<size_t>(s.row_begin + i);
    const int32_t pos = batch_->positions[row];
    tokens_.host()[row] = batch_->tokens[row];
    positions_.host()[row] = pos;
    slots_.host()[row] = s.page_table[pos / kPageSize] * kPageSize + pos % kPageSize;
    row_seals_.host()[row] = s.q_len == 1 && pos % kPageSize == kPageSize - 1 ? 1 : 0;
  }
  if (s.q_len == 1) return;
  for (int32_t page = (s.kv_len - s.q_len) / kPageSize; page < s.kv_len / kPageSize; ++page)
    seals_.host()[num_seals_++] = {.page_id = s.page_table[page]};
}

void StepTables::FillFlags() {
  for (int32_t layer = 0; layer < options_.num_layers; ++layer) {
    uint8_t* flags = flags_.host() + int64_t{layer} * options_.max_sequences;
    for (size_t i = 0; i < batch_->sequences.size(); ++i) {
      const AttentionPlan* plan = batch_->sequences[i].plan;
      const bool reads_all = plan == nullptr || plan->Role(layer) == LayerRole::kFull;
      flags[i] = reads_all ? kReadsAll : kReadsSets;
      if (plan != nullptr && plan->Selects(layer)) flags[i] |= kChooses;
    }
  }
}

int64_t StepTables::Fill(const StepBatch& batch) {
  batch_ = &batch;
  max_q_len_ = 0;
  num_seals_ = 0;
  num_page_ids_ = 0;
  has_decode_ = has_prefill_ = has_plans_ = sets_per_head_ = false;
  for (size_t i = 0; i < batch.sequences.size(); ++i) {
    const StepSequence& s = batch.sequences[i];
    sequences_.host()[i] = {.row_begin = s.row_begin,
                            .q_len = s.q_len,
                            .kv_len = s.kv_len,
                            .page_begin = num_page_ids_,
                            .state = s.state};
    const auto num_pages = static_cast<int32_t>(CeilDiv(s.kv_len, kPageSize));
    std::copy_n(s.page_table, num_pages, page_ids_.host() + num_page_ids_);
    num_page_ids_ += num_pages;
    max_q_len_ = std::max(max_q_len_, s.q_len);
    const bool is_decode = s.q_len * options_.gqa_ratio <= kMaxDecodeAttentionRows;
    (is_decode ? has_decode_ : has_prefill_) = true;
    if (s.plan != nullptr) {
      has_plans_ = true;
      sets_per_head_ =
          sets_per_head_ || (s.plan->scope == SetScope::kHead && options_.gqa_ratio > 1);
    }
    FillRows(s);
  }
  int32_t* output_row =
      std::copy(batch.logit_rows.begin(), batch.logit_rows.end(), output_rows_.host());
  DeviceCandidateRow* wanted = candidate_rows_.host();
  for (const CandidateRow& row : batch.candidate_rows) {
    *output_row++ = row.row;
    *wanted++ = {.count = row.count, .wants_softmax = row.wants_softmax ? 1 : 0};
  }
  FillFlags();
  return page_ids_.EndOf(num_page_ids_);
}

std::string StepTables::LaunchKey() const {
  std::string key =
      fmt::format("{} {} {} {} {} {} {}", batch_->num_rows(), batch_->sequences.size(),
                  batch_->logit_rows.size(), batch_->candidate_rows.size(), max_q_len_, has_plans_,
                  sets_per_head_);
  for (int32_t layer = 0; layer < options_.num_layers; ++layer) {
    const uint8_t* flags = flags_.host() + int64_t{layer} * options_.max_sequences;
    uint8_t any = 0;
    for (size_t i = 0; i < batch_->sequences.size(); ++i) any |= flags[i];
    key += static_cast<char>('0' + any);
  }
  return key;
}

}  // namespace tidal
