// Bytes that an ELF file holds compressed, inflated within a bound.
//
// Input is hostile. Memory grows with what really comes out, up to `max_bytes` (kResourceExhausted
// beyond it), so a small file that claims much costs little. The decoders' own memory: zlib 48 KiB,
// zstd 128 MiB of window at most, xz kMaxXzDecoderBytes. Pure functions; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"

namespace lbrd::unwind {

enum class Compression : uint8_t { kZlib, kZstd, kXz };

// What xz -9 needs to be unpacked, and a little.
inline constexpr uint64_t kMaxXzDecoderBytes = uint64_t{80} << 20;

// kDataLoss: not such a stream, or cut short.
absl::StatusOr<std::vector<std::byte>> Decompress(Compression compression,
                                                  std::span<const std::byte> input,
                                                  size_t max_bytes);

}  // namespace lbrd::unwind
