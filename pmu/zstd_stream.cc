#include "pmu/zstd_stream.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace lbrd::pmu {

absl::StatusOr<size_t> ZstdStream::Decompress(std::span<std::byte> output) {
  if (context_ == nullptr) context_.reset(ZSTD_createDCtx());
  if (context_ == nullptr) return absl::ResourceExhaustedError("no memory for decompression");
  ZSTD_outBuffer out{.dst = output.data(), .size = output.size(), .pos = 0};
  while (out.pos < out.size && (!input_.empty() || holds_output_)) {
    const size_t before = out.pos;
    ZSTD_inBuffer in{.src = input_.data(), .size = input_.size(), .pos = 0};
    const size_t result = ZSTD_decompressStream(context_.get(), &out, &in);
    if (ZSTD_isError(result)) {
      return absl::DataLossError(
          absl::StrCat("compressed data is corrupt: ", ZSTD_getErrorName(result)));
    }
    input_ = input_.subspan(in.pos);
    holds_output_ = out.pos == out.size;
    if (in.pos == 0 && out.pos == before && !input_.empty()) {
      return absl::DataLossError("compressed data is corrupt: decoding it leads nowhere");
    }
  }
  return out.pos;
}

}  // namespace lbrd::pmu
