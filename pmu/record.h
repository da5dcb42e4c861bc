// Records as the kernel writes them, decoded in place.
//
// A record is a perf_event_header followed by fields whose presence and order depend on the attr of
// the event that wrote it (see "man perf_event_open" and the comments of enum perf_event_type in
// <linux/perf_event.h>). Decoding allocates nothing: spans and views point into the record, which
// must be 8-byte aligned and outlive them.
//
// Input is hostile (a perf.data file may hold anything), so every read is bounded by header.size.
// Thread rules: everything here is a pure function of its arguments.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <variant>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "pmu/abi.h"

namespace lbrd::pmu {

// What a record's layout depends on: a subset of its event's attr.
struct RecordFormat {
  uint64_t sample_type = 0;
  uint64_t read_format = 0;
  uint64_t branch_sample_type = 0;
  uint64_t sample_regs_user = 0;  // bit n: register n of the architecture's perf_regs.h
  uint64_t sample_regs_intr = 0;
  bool sample_id_all = false;

  static RecordFormat FromAttr(const perf_event_attr& attr);
  bool operator==(const RecordFormat&) const = default;
};

// Who and when. A field that the format does not carry keeps its default.
struct SampleId {
  uint64_t time = 0;  // ns of the session's clock; 0: not recorded
  uint64_t id = 0;
  int32_t pid = -1;  // group leader (tgid)
  int32_t tid = -1;
  uint32_t cpu = 0;
  bool has_time = false;
  bool has_tid = false;
  bool has_cpu = false;
};

// One branch of a branch stack; bit-compatible with perf_branch_entry, flags left packed.
struct Branch {
  uint64_t from;
  uint64_t to;
  uint64_t flags;
};
static_assert(sizeof(Branch) == sizeof(perf_branch_entry));

struct BranchStack {
  std::span<const Branch> branches;  // youngest first
  std::optional<uint64_t> hw_index;  // top-of-stack index; absent unless asked for
};

// Registers in ascending order of the mask's set bits. The mask is what was asked for; with an abi
// of NONE (a kernel thread) there are no values all the same.
struct Registers {
  uint64_t abi = PERF_SAMPLE_REGS_ABI_NONE;
  uint64_t mask = 0;
  std::span<const uint64_t> values;
  // The value of register `index` of the architecture's perf_regs.h, if recorded.
  std::optional<uint64_t> Get(unsigned index) const;
};

struct SampleRecord {
  SampleRecord() {}  // written down: an implicit one has all of it zeroed first
  SampleId who;
  uint16_t cpumode = 0;  // PERF_RECORD_MISC_KERNEL, _USER, _HYPERVISOR, _GUEST_…
  uint64_t ip = 0;
  uint64_t addr = 0;
  uint64_t period = 0;  // event units since the previous sample; 0: not recorded
  bool has_ip = false;
  bool has_branch_stack = false;
  bool has_callchain = false;
  std::span<const uint64_t> callchain;  // context markers included, as the kernel wrote it
  BranchStack branch_stack;
  Registers user_regs;
  std::span<const std::byte> user_stack;  // what the kernel could copy (dyn_size), from SP up
  uint64_t user_stack_asked = 0;          // bytes asked for; equal size means it may go on
  uint64_t cgroup = 0;
};

// A file's identity as a mapping record carries it. Either a build ID, or an inode.
struct MappedFileId {
  std::span<const std::byte> build_id;  // empty: not recorded
  uint32_t major = 0;
  uint32_t minor = 0;
  uint64_t inode = 0;
  uint64_t inode_generation = 0;
};

struct MmapRecord {  // PERF_RECORD_MMAP and PERF_RECORD_MMAP2
  SampleId who;
  int32_t pid = -1;
  int32_t tid = -1;
  uint64_t start = 0;
  uint64_t length = 0;
  uint64_t file_offset = 0;
  bool executable = false;
  bool kernel = false;  // cpumode says kernel: the kernel's text or a module
  MappedFileId file;
  absl::string_view path;
};

struct CommRecord {
  SampleId who;
  int32_t pid = -1;
  int32_t tid = -1;
  bool exec = false;  // the name changed because the process executed another program
  absl::string_view comm;
};

struct TaskRecord {  // PERF_RECORD_FORK and PERF_RECORD_EXIT
  SampleId who;
  bool exit = false;
  int32_t pid = -1;
  int32_t ppid = -1;
  int32_t tid = -1;
  int32_t ptid = -1;
  uint64_t time = 0;
};

struct LostRecord {  // PERF_RECORD_LOST: records of any kind; PERF_RECORD_LOST_SAMPLES: samples
  SampleId who;
  uint64_t count = 0;
  bool samples_only = false;
};

struct ThrottleRecord {
  SampleId who;
  bool throttled = false;  // false: unthrottled
};

struct KsymbolRecord {
  SampleId who;
  uint64_t address = 0;
  uint32_t length = 0;
  bool unregister = false;
  absl::string_view name;
};

// The user part of every sample of this task that asked with the same cookie.
struct CallchainDeferredRecord {
  SampleId who;
  uint64_t cookie = 0;
  std::span<const uint64_t> ips;  // leaf first, no context marker
};

// A kind this build has no use for; it is still counted by whoever reads it.
struct OtherRecord {
  SampleId who;
  uint32_t type = 0;
};

using Record = std::variant<SampleRecord, MmapRecord, CommRecord, TaskRecord, LostRecord,
                            ThrottleRecord, KsymbolRecord, CallchainDeferredRecord, OtherRecord>;

// Decodes one record. `header` must be 8-byte aligned and followed by header->size - 8 bytes.
// kDataLoss: the record's size does not hold the fields its format promises.
absl::StatusOr<Record> DecodeRecord(const perf_event_header* header, const RecordFormat& format);

// The same for a sample whose header stands elsewhere: `misc` is the header's, `fields` is what
// follows it.
absl::StatusOr<Record> DecodeSample(uint16_t misc, std::span<const std::byte> fields,
                                    const RecordFormat& format);

// Only who and when: what ordering and routing need, an order of magnitude cheaper than decoding.
// For side-band records pid and tid are those of the record's subject where it has one. nullopt:
// where DecodeRecord says kDataLoss for the same fields.
std::optional<SampleId> PeekRecord(const perf_event_header* header, const RecordFormat& format);

// The id of the event that wrote a record of a stream with several formats: PERF_SAMPLE_IDENTIFIER
// stands first in samples and last in everything else. nullopt: the record is too short.
std::optional<uint64_t> PeekIdentifier(const perf_event_header* header);

}  // namespace lbrd::pmu
