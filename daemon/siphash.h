// SipHash-2-4 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012): 64 bits that
// nobody who does not know the key can make collide. Checked against the paper's test vectors.
//
// Thread rules: none; a hasher has one owner.
#pragma once

#include <cstdint>

#include "absl/strings/string_view.h"

namespace lbrd::daemon {

struct SipKey {
  uint64_t k0 = 0;
  uint64_t k1 = 0;
};

class SipHasher {
 public:
  explicit SipHasher(const SipKey& key);

  void AddBytes(absl::string_view bytes);
  // Eight bytes, the least significant first.
  void AddInt(uint64_t value);
  // With its length, so that two texts in a row never look like two others.
  void AddText(absl::string_view text);
  // Ends it.
  uint64_t Finish();

 private:
  void Compress(uint64_t word);
  void Rounds(int count);

  uint64_t v_[4];
  uint64_t tail_ = 0;  // bytes that do not fill a word yet
  uint64_t length_ = 0;
};

}  // namespace lbrd::daemon
