#include "unwind/decompress.h"

#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <limits>
#include <memory>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace lbrd::unwind {
namespace {

constexpr size_t kFirstBytes = 64 << 10;

enum class Step { kMore, kEnd, kBroken };

// Each decoder fills some of `out` and says how much.
class ZlibDecoder {
 public:
  explicit ZlibDecoder(std::span<const std::byte> input) : left_(input) {
    ready_ = inflateInit(&stream_) == Z_OK;
  }
  ZlibDecoder(const ZlibDecoder&) = delete;
  ZlibDecoder& operator=(const ZlibDecoder&) = delete;
  ~ZlibDecoder() {
    if (ready_) inflateEnd(&stream_);
  }
  Step Fill(std::span<std::byte> out, size_t* written) {
    if (!ready_) return Step::kBroken;
    constexpr size_t kMost = std::numeric_limits<uInt>::max();
    const size_t given = std::min(left_.size(), kMost);
    const size_t room = std::min(out.size(), kMost);
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(left_.data()));
    stream_.avail_in = static_cast<uInt>(given);
    stream_.next_out = reinterpret_cast<Bytef*>(out.data());
    stream_.avail_out = static_cast<uInt>(room);
    const int result = inflate(&stream_, Z_NO_FLUSH);
    left_ = left_.subspan(given - stream_.avail_in);
    *written = room - stream_.avail_out;
    if (result == Z_STREAM_END) return Step::kEnd;
    return result == Z_OK && (*written > 0 || !left_.empty()) ? Step::kMore : Step::kBroken;
  }

 private:
  z_stream stream_{};
  bool ready_ = false;
  std::span<const std::byte> left_;
};

class ZstdDecoder {
 public:
  explicit ZstdDecoder(std::span<const std::byte> input)
      : context_(ZSTD_createDCtx(), ZSTD_freeDCtx), input_{input.data(), input.size(), 0} {}
  Step Fill(std::span<std::byte> out, size_t* written) {
    ZSTD_outBuffer output{out.data(), out.size(), 0};
    const size_t before = input_.pos;
    const size_t result = ZSTD_decompressStream(context_.get(), &output, &input_);
    *written = output.pos;
    if (ZSTD_isError(result)) return Step::kBroken;
    if (result == 0) return Step::kEnd;
    return output.pos > 0 || input_.pos > before ? Step::kMore : Step::kBroken;
  }

 private:
  std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> context_;
  ZSTD_inBuffer input_;
};

class XzDecoder {
 public:
  explicit XzDecoder(std::span<const std::byte> input) {
    ready_ = lzma_stream_decoder(&stream_, kMaxXzDecoderBytes, 0) == LZMA_OK;
    stream_.next_in = reinterpret_cast<const uint8_t*>(input.data());
    stream_.avail_in = input.size();
  }
  XzDecoder(const XzDecoder&) = delete;
  XzDecoder& operator=(const XzDecoder&) = delete;
  ~XzDecoder() { lzma_end(&stream_); }
  Step Fill(std::span<std::byte> out, size_t* written) {
    if (!ready_) return Step::kBroken;
    stream_.next_out = reinterpret_cast<uint8_t*>(out.data());
    stream_.avail_out = out.size();
    const lzma_ret result = lzma_code(&stream_, LZMA_RUN);
    *written = out.size() - stream_.avail_out;
    if (result == LZMA_STREAM_END) return Step::kEnd;
    return result == LZMA_OK ? Step::kMore : Step::kBroken;
  }

 private:
  lzma_stream stream_ = LZMA_STREAM_INIT;
  bool ready_ = false;
};

template <typename Decoder>
absl::StatusOr<std::vector<std::byte>> Drain(Decoder decoder, size_t max_bytes) {
  std::vector<std::byte> out;
  size_t used = 0;
  Step step = Step::kMore;
  while (step == Step::kMore && used <= max_bytes) {
    // Room for one byte too many tells what is full from what is too much.
    if (used == out.size()) out.resize(std::min(max_bytes + 1, std::max(kFirstBytes, 2 * used)));
    size_t written = 0;
    step = decoder.Fill(std::span(out).subspan(used), &written);
    used += written;
  }
  if (step == Step::kBroken) return absl::DataLossError("compressed data is damaged or cut short");
  if (used > max_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("compressed data holds more than the ", max_bytes, " bytes that are taken"));
  }
  out.resize(used);
  return out;
}

}  // namespace

absl::StatusOr<std::vector<std::byte>> Decompress(Compression compression,
                                                  std::span<const std::byte> input,
                                                  size_t max_bytes) {
  switch (compression) {
    case Compression::kZlib:
      return Drain<ZlibDecoder>(ZlibDecoder(input), max_bytes);
    case Compression::kZstd:
      return Drain<ZstdDecoder>(ZstdDecoder(input), max_bytes);
    case Compression::kXz:
      return Drain<XzDecoder>(XzDecoder(input), max_bytes);
  }
  return absl::InternalError("no such compression");
}

}  // namespace lbrd::unwind
