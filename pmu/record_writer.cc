#include "pmu/record_writer.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

namespace lbrd::pmu {

void RecordWriter::Append(uint32_t type, uint16_t misc, const void* fields, size_t field_bytes,
                          absl::string_view text) {
  text = text.substr(0, 4095);
  // Text is NUL-terminated and padded to 8 bytes, as the kernel does.
  const size_t size = (sizeof(perf_event_header) + field_bytes + text.size() + 1 + 7) / 8 * 8;
  const size_t first = words_.size();
  words_.resize(first + size / 8);
  auto* out = reinterpret_cast<std::byte*>(words_.data() + first);
  const perf_event_header header{.type = type, .misc = misc, .size = static_cast<uint16_t>(size)};
  std::memcpy(out, &header, sizeof(header));
  std::memcpy(out + sizeof(header), fields, field_bytes);
  std::memcpy(out + sizeof(header) + field_bytes, text.data(), text.size());
}

void RecordWriter::Comm(int32_t pid, int32_t tid, absl::string_view comm, bool exec) {
  const int32_t fields[2] = {pid, tid};
  Append(PERF_RECORD_COMM, exec ? PERF_RECORD_MISC_COMM_EXEC : 0, fields, sizeof(fields), comm);
}

void RecordWriter::Exit(int32_t pid, int32_t tid) {
  const struct {
    int32_t pid, ppid, tid, ptid;
    uint64_t time;
  } fields{pid, pid, tid, tid, 0};
  const size_t first = words_.size();
  const perf_event_header header{
      .type = PERF_RECORD_EXIT, .misc = 0, .size = sizeof(perf_event_header) + sizeof(fields)};
  words_.resize(first + header.size / 8);
  std::memcpy(words_.data() + first, &header, sizeof(header));
  std::memcpy(words_.data() + first + 1, &fields, sizeof(fields));
}

void RecordWriter::Mmap2(int32_t pid, int32_t tid, uint64_t start, uint64_t length,
                         uint64_t file_offset, bool executable, const MappedFileId& file,
                         absl::string_view path) {
  struct {
    int32_t pid, tid;
    uint64_t start, length, offset;
    union {
      struct {
        uint32_t major, minor;
        uint64_t inode, generation;
      } inode;
      struct {
        uint8_t size;
        uint8_t reserved[3];
        uint8_t bytes[20];
      } build_id;
    } file;
    uint32_t protection, flags;
  } fields{};
  fields.pid = pid;
  fields.tid = tid;
  fields.start = start;
  fields.length = length;
  fields.offset = file_offset;
  uint16_t misc = PERF_RECORD_MISC_USER;
  if (!file.build_id.empty()) {
    misc |= PERF_RECORD_MISC_MMAP_BUILD_ID;
    const size_t size = std::min(file.build_id.size(), sizeof(fields.file.build_id.bytes));
    fields.file.build_id.size = static_cast<uint8_t>(size);
    std::memcpy(fields.file.build_id.bytes, file.build_id.data(), size);
  } else {
    fields.file.inode = {file.major, file.minor, file.inode, file.inode_generation};
  }
  fields.protection = PROT_READ | (executable ? PROT_EXEC : 0);
  fields.flags = MAP_PRIVATE;
  Append(PERF_RECORD_MMAP2, misc, &fields, sizeof(fields), path);
}

}  // namespace lbrd::pmu
