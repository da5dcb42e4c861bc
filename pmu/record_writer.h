// Writes records in the kernel's own format, for what is known without the kernel having said it
// (the processes that ran before a session) and for tests.
//
// The records carry no sample_id: their format is RecordFormat{} (see RecordFormat::sample_id_all).
#pragma once

#include <cstdint>
#include <vector>

#include "pmu/record.h"

namespace lbrd::pmu {

class RecordWriter {
 public:
  // At least one record; each is 8-byte aligned and follows the one before.
  const std::vector<uint64_t>& words() const { return words_; }
  void Clear() { words_.clear(); }

  void Comm(int32_t pid, int32_t tid, absl::string_view comm, bool exec = false);
  void Exit(int32_t pid, int32_t tid);
  // `path` is cut at 4095 bytes.
  void Mmap2(int32_t pid, int32_t tid, uint64_t start, uint64_t length, uint64_t file_offset,
             bool executable, const MappedFileId& file, absl::string_view path);

 private:
  // Appends a record: header, `fields`, then `text` with its padding.
  void Append(uint32_t type, uint16_t misc, const void* fields, size_t field_bytes,
              absl::string_view text);
  std::vector<uint64_t> words_;
};

}  // namespace lbrd::pmu
