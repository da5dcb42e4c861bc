// A record in memory that outlives whoever writes it, who may be killed between any two stores:
// two copies, written in turn, each with a serial number and a checksum. What is read is the newest
// copy that is whole: the record as it was before the write that was cut short, or after it.
//
// The checksum is against writes cut short, not against liars: its key is known. Who reads must
// take what it reads for anybody's words. It is copied before it is looked at, since somebody may
// still hold the memory.
//
//   a copy: serial 8 bytes (0: none), length 8, checksum 8, then the record
//
// Memory: given; half of it a copy's. A write makes no system call and allocates nothing.
// Thread rules: one writer at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "absl/strings/string_view.h"

namespace lbrd::daemon {

class JournalSlot {
 public:
  static constexpr size_t kHeaderBytes = 24;

  // Goes on with what is there. `memory`: a multiple of 16 bytes, aligned to 8.
  explicit JournalSlot(std::span<std::byte> memory);

  size_t capacity() const { return memory_.size() / 2 - kHeaderBytes; }
  // False: it is longer than the slot's capacity, and nothing has changed. Empty: there is none.
  bool Write(absl::string_view record);
  // Empty: there is none.
  std::string Read() const;

 private:
  std::span<std::byte> Copy(size_t which) const {
    return memory_.subspan(which * memory_.size() / 2, memory_.size() / 2);
  }
  // The serial number of a copy that is whole, and its record; 0: it is not.
  uint64_t ReadCopy(size_t which, std::string* record) const;

  const std::span<std::byte> memory_;
  size_t next_;      // the copy to write
  uint64_t serial_;  // of the other
};

}  // namespace lbrd::daemon
