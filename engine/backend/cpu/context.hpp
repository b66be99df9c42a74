// Runs a compiled program for the token rows of a pass: activations, KV blocks and scratch of one scheduler.
//
// Every operation is cut into parts of a fixed size that write disjoint outputs, so neither the number of
// threads nor what else is in the pass can change a number. Small operations run in the calling thread:
// waking others costs more than they do. One thread at a time; no allocation in forward ().
#pragma once

#include "engine/backend/cpu/compiled_program.hpp"
#include "engine/backend/cpu/grouped_rows.hpp"
#include "engine/backend/cpu/units.hpp"

#include <atomic>
#include <span>

namespace millrace::cpu
{

constexpr int kSplitQueries = 24;  ///< most queries whose context is cut into parts
constexpr int kPartsPerThread = 4; ///< of attention, when they can be had

class Context final : public ExecutionContext
{
public:
  Context (std::shared_ptr<const CompiledProgram> compiled, const ContextOptions &options);

  void forward (std::span<const Slice> slices) override;
  int max_tokens () const override { return max_tokens_; }
  std::vector<OpTime> op_times () const override { return op_times_; }

  void copy_block (int group, BlockId from, BlockId to) override;
  void clear_block (int group, BlockId block) override;
  void read_block (int group, BlockId block, std::span<std::byte> out) const override;
  void write_block (int group, BlockId block, std::span<const std::byte> in) override;

private:
  struct TokenRow {
    TokenId token;
    int position;
    int slice;
  };
  struct OutputRow {
    int token_row;
    float *hidden;
    float *logits;
  };
  struct Buffer {
    float *data = nullptr;
    size_t stride = 0; ///< floats
    BufferRef::Rows rows = BufferRef::Rows::kToken;
    std::vector<float *> row_pointers;

    float *row (int index) const { return data + static_cast<size_t> (index) * stride; }
  };
  struct Product {
    const PackedWeight *weight;
    const float *bias;
    float *const *y; ///< rows of output
    bool accumulate;
  };
  struct AttentionTask {
    int slice;
    int token_row;   ///< of the slice's first token
    int first_query; ///< of the slice's tokens × heads that share a KV head
    int queries;
    int heads;          ///< KV heads of a part
    int splits;         ///< that its queries see: attention.hpp
    bool is_even;       ///< threads that take them in turn end together
    int cuts;           ///< parts of its splits; 1: all in one, merged in place
    int first_part;     ///< of its head groups × cuts
    int first_merge;    ///< of its head groups, when it is cut
    size_t first_state; ///< in states_, when it is cut
    int64_t cost;       ///< multiply-adds
  };

  void find_gated_products ();
  size_t run_next (size_t index);
  void forward_measured ();
  void plan_activations ();
  void plan_scratch (const ContextOptions &options);
  void lay_out_rows (std::span<const Slice> slices);
  const std::vector<float> &frequencies_of (const RopeTable &table, const TokenRow &token) const;
  void compute_rope_tables ();

  void run (const EmbedOp &op);
  void run (const RmsNormOp &op);
  void run (const LinearOp &op);
  void run (const KvAppendOp &op);
  void run (const AttentionOp &op);
  void run (const GatedOp &op);
  void run (const LinearOp &op, const GatedOp &gated);
  void run (const SelectOp &op);
  void run (const HiddenOp &op);
  void run (const HeadOp &op);
  void run (const AddOp &op);
  void run (const ScaleOp &op);
  void run (const CopyOp &op);
  void run (const RouteOp &op);
  void run (const ExpertsOp &op);
  void run (const RowGateOp &op);
  void run (const PartsLinearOp &op);
  void run (const ConvolutionOp &op);
  void run (const RecurrenceOp &op);

  void plan_groups ();
  int group_experts (const ExpertsOp &op);
  void activate (const ExpertsOp &op, float *gate, float *up, int count) const;
  void quantize_groups (float *x, size_t x_stride, int products);
  void multiply_groups (float *x, size_t x_stride, int products,
                        FunctionRef<void (const RowGroup &group, const Tile &tile)> then);

  void prepare_heads (const KvAppendOp &op, int row, int first, int last);
  void append_head (const KvAppendOp &op, int row, int head);
  int query_tile (const KvLayer &layer, int group) const;
  void plan_attention (const KvLayer &layer, int group);
  void describe (const AttentionOp &op, const AttentionTask &task, int first_head, AttentionArgs &args,
                 float **out, float *sinks) const;
  void attend_part (const AttentionOp &op, const AttentionTask &task, int first_head, int cut, int lane);
  std::byte *state_of (const Slice &slice) const;
  void convolve (const ConvolutionOp &op, const Slice &slice, int first_row, int block) const;
  void prepare_recurrence (const RecurrenceOp &op, int row) const;
  void recur (const RecurrenceOp &op, const Slice &slice, int first_row, int head) const;
  using ActivationKernel = decltype (KernelTable::silu);
  ActivationKernel activation_kernel (GatedOp::Activation activation) const;
  Product product_of (const LinearOp::Projection &projection) const;
  void multiply (float *x, size_t x_stride, int rows, std::span<const Product> products);
  void multiply_tile (const Product &product, const void *x, size_t x_row_bytes, const Tile &tile,
                      int lane) const;
  void clear_padding (float *x, size_t x_stride, int rows, const PackedWeight &weight) const;
  const void *quantize (float *x, size_t x_stride, int rows, const PackedWeight &weight);
  void run_units (int count, int tokens, int64_t cost, FunctionRef<void (int begin, int end, int lane)> work);

  const Buffer &buffer (BufferId id) const { return buffers_[static_cast<size_t> (id)]; }
  int row_count (const Buffer &buffer) const;
  const KvPlace &place (KvLayerId layer) const { return kv_plan_.places[static_cast<size_t> (layer)]; }
  template <typename F>
  void for_parts (int group, BlockId a, BlockId b, F &&work) const;
  float *lane_scratch (int lane, size_t offset) const
  {
    return scratch_.floats () + static_cast<size_t> (lane) * lane_floats_ + offset;
  }

  std::shared_ptr<const CompiledProgram> compiled_;
  const KernelTable &kernels_;
  KvType kv_type_;
  const KvPlan &kv_plan_;
  int max_tokens_;

  std::vector<Memory> kv_; ///< of each group
  Memory activations_;
  /// A thread's part of the work at hand, in units.
  struct alignas (64) Stretch {
    std::atomic<int> next = 0;
    int end = 0;
  };
  std::vector<Stretch> stretches_;             ///< of each thread
  std::array<Memory, kActivations> quantized_; ///< the input of a product as its weights want it
  Memory ropes_;                               ///< per table, per row: cosines, then sines
  Memory scratch_; ///< per lane: of attention, its states of two splits, an expanded weight row
  Memory states_;  ///< of the splits of attention tasks that are cut
  std::vector<Buffer> buffers_;
  std::vector<float> ones_; ///< the weights of a norm without weights, what a gate without an input gates
  std::vector<float *> rope_rows_; ///< first row of each table
  size_t lane_floats_ = 0;
  size_t states_at_ = 0, row_at_ = 0; ///< floats
  size_t states_room_ = 0;            ///< states in states_

  std::vector<bool> gated_;      ///< operation i is the product whose results are the gate and input of i + 1
  std::vector<OpTime> op_times_; ///< by the index of the alternative in Op; empty: not measured

  // The pass that runs.
  std::span<const Slice> slices_;
  std::vector<TokenRow> rows_;
  std::vector<OutputRow> outputs_; ///< scored rows first
  std::vector<int> first_rows_;    ///< of each slice
  std::vector<float *> logits_rows_;
  std::vector<AttentionTask> tasks_;
  int query_tile_ = kQueryTile; ///< of the present attention
  std::vector<Product> products_;
  GroupedRows grouped_;
};

} // namespace millrace::cpu
