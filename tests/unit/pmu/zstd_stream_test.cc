#include "pmu/zstd_stream.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace lbrd::pmu {
namespace {

std::span<const std::byte> Bytes(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// Compresses pieces as one stream that is flushed after each and never ended.
std::vector<std::string> Compress(const std::vector<std::string>& pieces) {
  ZSTD_CCtx* context = ZSTD_createCCtx();
  std::vector<std::string> result;
  for (const std::string& piece : pieces) {
    std::string compressed(ZSTD_compressBound(piece.size()) + 64, 0);
    ZSTD_inBuffer in{piece.data(), piece.size(), 0};
    ZSTD_outBuffer out{compressed.data(), compressed.size(), 0};
    EXPECT_EQ(ZSTD_compressStream2(context, &out, &in, ZSTD_e_flush), 0u);
    compressed.resize(out.pos);
    result.push_back(compressed);
  }
  ZSTD_freeCCtx(context);
  return result;
}

// All that the piece of input gives, taken `step` bytes at a time.
std::string Drain(ZstdStream& stream, size_t step) {
  std::string all;
  std::string buffer(step, 0);
  for (;;) {
    const absl::StatusOr<size_t> count =
        stream.Decompress(std::as_writable_bytes(std::span(buffer.data(), buffer.size())));
    EXPECT_TRUE(count.ok()) << count.status();
    if (!count.ok()) return all;
    all.append(buffer, 0, *count);
    if (*count < step) return all;
  }
}

TEST(ZstdStream, GivesAllOfAPieceInStepsOfAnySize) {
  std::string pattern;
  for (uint32_t i = 0; i < 400'000; ++i) pattern += static_cast<char>('a' + i * i % 23);
  const std::vector<std::string> pieces = {std::string(1 << 20, 'x'), "a little", pattern, ""};
  const std::vector<std::string> compressed = Compress(pieces);
  for (const size_t step : {size_t{1000}, size_t{1} << 16, size_t{1} << 17, size_t{1} << 22}) {
    ZstdStream stream;
    for (size_t i = 0; i < pieces.size(); ++i) {
      stream.Feed(Bytes(compressed[i]));
      EXPECT_EQ(Drain(stream, step), pieces[i]) << i << " " << step;
    }
  }
}

TEST(ZstdStream, EmptyPiecesAreHarmless) {
  ZstdStream stream;
  for (int i = 0; i < 100; ++i) {
    stream.Feed({});
    EXPECT_EQ(Drain(stream, 100), "");
  }
}

TEST(ZstdStream, SaysWhatIsWrong) {
  ZstdStream stream;
  const std::string garbage = "this was never compressed";
  stream.Feed(Bytes(garbage));
  std::byte room[100];
  const absl::StatusOr<size_t> count = stream.Decompress(room);
  EXPECT_EQ(count.status().code(), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace lbrd::pmu
