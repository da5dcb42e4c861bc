#include "daemon/siphash.h"

#include <bit>

namespace lbrd::daemon {

SipHasher::SipHasher(const SipKey& key)
    // The paper's constants: "somepseudorandomlygeneratedbytes".
    : v_{key.k0 ^ 0x736f6d6570736575, key.k1 ^ 0x646f72616e646f6d, key.k0 ^ 0x6c7967656e657261,
         key.k1 ^ 0x7465646279746573} {}

void SipHasher::Rounds(int count) {
  for (int i = 0; i < count; ++i) {
    v_[0] += v_[1];
    v_[2] += v_[3];
    v_[1] = std::rotl(v_[1], 13) ^ v_[0];
    v_[3] = std::rotl(v_[3], 16) ^ v_[2];
    v_[0] = std::rotl(v_[0], 32);
    v_[2] += v_[1];
    v_[0] += v_[3];
    v_[1] = std::rotl(v_[1], 17) ^ v_[2];
    v_[3] = std::rotl(v_[3], 21) ^ v_[0];
    v_[2] = std::rotl(v_[2], 32);
  }
}

void SipHasher::Compress(uint64_t word) {
  v_[3] ^= word;
  Rounds(2);
  v_[0] ^= word;
}

void SipHasher::AddBytes(absl::string_view bytes) {
  for (const char byte : bytes) {
    tail_ |= uint64_t{static_cast<unsigned char>(byte)} << (length_ % 8 * 8);
    if (++length_ % 8 != 0) continue;
    Compress(tail_);
    tail_ = 0;
  }
}

void SipHasher::AddInt(uint64_t value) {
  const unsigned used = length_ % 8 * 8;
  Compress(tail_ | value << used);
  tail_ = used == 0 ? 0 : value >> (64 - used);
  length_ += 8;
}

void SipHasher::AddText(absl::string_view text) {
  AddInt(text.size());
  AddBytes(text);
}

uint64_t SipHasher::Finish() {
  Compress(tail_ | length_ << 56);
  v_[2] ^= 0xff;
  Rounds(4);
  return v_[0] ^ v_[1] ^ v_[2] ^ v_[3];
}

}  // namespace lbrd::daemon
