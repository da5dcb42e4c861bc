#include "tests/workload/demo_codec.h"

#include "tests/workload/cpu_quota.h"

extern "C" DEMO_OWN_FRAME uint64_t demo_codec_transform(uint64_t state, uint64_t iterations) {
  for (; iterations > 0; --iterations) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
  }
  return state;
}

namespace demo_codec {

DEMO_OWN_FRAME uint64_t Crc32(uint64_t state, uint64_t iterations) {
  for (; iterations > 0; --iterations) {
    state = (state >> 1) ^ (0xedb88320u & (0u - (state & 1u))) ^ (iterations << 32);
  }
  return state;
}

}  // namespace demo_codec

extern "C" DEMO_OWN_FRAME uint64_t demo_codec_checksum(uint64_t state, uint64_t iterations) {
  return demo_codec::Crc32(state, iterations) + 1;
}
