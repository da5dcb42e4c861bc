#pragma once

#include <cstdint>

// libdemo_codec.so: work in a shared library, called through the procedure linkage table and bound
// lazily.

// Does `iterations` steps of a made-up transform on `state`; all the work is in the function
// itself.
extern "C" uint64_t demo_codec_transform(uint64_t state, uint64_t iterations);

namespace demo_codec {

// Does `iterations` steps of a checksum.
uint64_t Crc32(uint64_t state, uint64_t iterations);

}  // namespace demo_codec

// Calls demo_codec::Crc32, which is exported, so also this call inside the library goes through the
// table.
extern "C" uint64_t demo_codec_checksum(uint64_t state, uint64_t iterations);
