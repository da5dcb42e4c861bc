#include "unwind/bytes_in_parts.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "absl/status/status.h"

namespace lbrd::unwind {
namespace {

constexpr size_t kPart = BytesInParts::kPartBytes;

// Byte i is i, and so on; from `readable` on it cannot be read.
class CountedSource : public ByteSource {
 public:
  CountedSource(size_t size, size_t readable) : size_(size), readable_(readable) {}
  uint64_t size() const override { return size_; }
  absl::Status ReadAt(uint64_t offset, std::span<std::byte> out) const override {
    ++reads;
    bytes_read += out.size();
    if (offset + out.size() > readable_) return absl::OutOfRangeError("beyond the end");
    for (size_t i = 0; i < out.size(); ++i) out[i] = ByteAt(offset + i);
    return absl::OkStatus();
  }
  static std::byte ByteAt(uint64_t offset) { return std::byte(offset * 7 + offset / 256); }

  mutable size_t reads = 0;
  mutable size_t bytes_read = 0;

 private:
  const size_t size_;
  const size_t readable_;
};

TEST(BytesInParts, OnlyWhatIsAskedForIsReadAndOnlyOnce) {
  const auto source = std::make_shared<CountedSource>(100 * kPart, 100 * kPart);
  BytesInParts parts(source, /*offset=*/123, 50 * kPart + 10);
  EXPECT_EQ(parts.size(), 50 * kPart + 10);
  EXPECT_EQ(source->reads, 0u);

  // Over the border of two parts.
  ASSERT_TRUE(parts.Ask(3 * kPart - 2, 4));
  EXPECT_EQ(parts.parts_read(), 2u);
  const std::byte* const first = parts.bytes().data();
  for (size_t at = 2 * kPart; at < 4 * kPart; ++at) {
    ASSERT_EQ(parts.bytes()[at], CountedSource::ByteAt(123 + at)) << at;
  }
  ASSERT_TRUE(parts.Ask(2 * kPart, 2 * kPart));
  EXPECT_EQ(source->reads, 2u);
  EXPECT_EQ(source->bytes_read, 2 * kPart);

  // The last part is shorter.
  ASSERT_TRUE(parts.Ask(50 * kPart, 10));
  EXPECT_EQ(source->bytes_read, 2 * kPart + 10);
  EXPECT_EQ(parts.bytes()[50 * kPart + 9], CountedSource::ByteAt(123 + 50 * kPart + 9));
  EXPECT_EQ(parts.bytes().data(), first) << "what was read does not move";
}

TEST(BytesInParts, BeyondTheEndThereIsNothing) {
  const auto source = std::make_shared<CountedSource>(4 * kPart, 4 * kPart);
  BytesInParts parts(source, 0, 4 * kPart);
  EXPECT_TRUE(parts.Ask(4 * kPart, 0));
  EXPECT_FALSE(parts.Ask(4 * kPart, 1));
  EXPECT_FALSE(parts.Ask(4 * kPart - 1, 2));
  EXPECT_FALSE(parts.Ask(SIZE_MAX, 1));
  EXPECT_FALSE(parts.Ask(1, SIZE_MAX));
  EXPECT_EQ(source->reads, 0u);
  EXPECT_FALSE(BytesInParts().Ask(0, 1));
}

TEST(BytesInParts, WhatCannotBeReadIsAskedForAgain) {
  const auto source = std::make_shared<CountedSource>(4 * kPart, 2 * kPart);
  BytesInParts parts(source, 0, 4 * kPart);
  EXPECT_FALSE(parts.Ask(kPart, 2 * kPart));
  EXPECT_EQ(parts.parts_read(), 1u);
  EXPECT_TRUE(parts.Ask(kPart, kPart));
  EXPECT_FALSE(parts.Ask(2 * kPart, 1));
}

}  // namespace
}  // namespace lbrd::unwind
