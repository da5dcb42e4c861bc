#include "pmu/record.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/utility/utility.h"
#include "pmu/field_reader.h"

namespace lbrd::pmu {
namespace {

constexpr uint64_t kWord = sizeof(uint64_t);
// The fields of sample_type that struct sample_id repeats at the end of records, a word each.
constexpr uint64_t kSampleIdFields = PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_ID |
                                     PERF_SAMPLE_STREAM_ID | PERF_SAMPLE_CPU |
                                     PERF_SAMPLE_IDENTIFIER;
constexpr size_t kBuildIdBytes = 20;  // the room for it in PERF_RECORD_MMAP2

const std::byte* Begin(const perf_event_header* header) {
  return reinterpret_cast<const std::byte*>(header);
}
const std::byte* End(const perf_event_header* header) { return Begin(header) + header->size; }

absl::Status TooShort(uint32_t type, size_t bytes) {
  return absl::DataLossError(absl::StrCat("a record of type ", type, " and ", bytes,
                                          " bytes does not hold the fields of its format"));
}
absl::Status TooShort(const perf_event_header* header) {
  return TooShort(header->type, header->size);
}

// The bytes of struct sample_id at the end of records that are not samples.
uint64_t TrailerBytes(const RecordFormat& format) {
  if (!format.sample_id_all) return 0;
  return kWord * static_cast<uint64_t>(std::popcount(format.sample_type & kSampleIdFields));
}

// What both samples and trailers have between PERF_SAMPLE_TID and PERF_SAMPLE_CPU, in this order;
// only samples also have an address there.
void ReadWho(FieldReader& in, uint64_t sample_type, bool is_sample, SampleId* who, uint64_t* addr) {
  if (sample_type & PERF_SAMPLE_TID) {
    who->pid = in.S32();
    who->tid = in.S32();
    who->has_tid = true;
  }
  if (sample_type & PERF_SAMPLE_TIME) {
    who->time = in.U64();
    who->has_time = true;
  }
  if (is_sample && (sample_type & PERF_SAMPLE_ADDR)) *addr = in.U64();
  if (sample_type & PERF_SAMPLE_ID) who->id = in.U64();
  if (sample_type & PERF_SAMPLE_STREAM_ID) in.U64();
  if (sample_type & PERF_SAMPLE_CPU) {
    who->cpu = in.U32();
    in.U32();
    who->has_cpu = true;
  }
}

// The record begins with the pid and the tid of whom it is about, who need not be who wrote it:
// perf synthesizes these records for other tasks, and a fork is written by the parent.
bool HasSubject(uint32_t type) {
  switch (type) {
    case PERF_RECORD_MMAP:
    case PERF_RECORD_MMAP2:
    case PERF_RECORD_COMM:
    case PERF_RECORD_FORK:
    case PERF_RECORD_EXIT:
    case PERF_RECORD_READ:
    case PERF_RECORD_ITRACE_START:
    case PERF_RECORD_NAMESPACES:
      return true;
    default:
      return false;
  }
}

// Fields of PERF_RECORD_FORK and PERF_RECORD_EXIT: pid, ppid, tid, ptid, time.
constexpr size_t kTaskTidOffset = 8;
constexpr size_t kTaskTimeOffset = 16;
constexpr size_t kTaskBytes = 24;

// Who wrote a record that is not a sample, or whom it is about. false: too short.
bool ReadTrailer(const perf_event_header* header, const RecordFormat& format, SampleId* who) {
  const std::byte* fields = Begin(header) + sizeof(*header);
  const uint64_t room = header->size - sizeof(*header);
  const uint64_t trailer = TrailerBytes(format);
  if (room < trailer) return false;
  if (trailer != 0) {
    FieldReader in(End(header) - trailer, End(header));
    ReadWho(in, format.sample_type, /*is_sample=*/false, who, nullptr);
    if (format.sample_type & PERF_SAMPLE_IDENTIFIER) who->id = in.U64();
  }
  if (!HasSubject(header->type)) return true;
  const bool task = header->type == PERF_RECORD_FORK || header->type == PERF_RECORD_EXIT;
  const size_t subject_bytes = task ? kTaskBytes : 2 * sizeof(int32_t);
  if (room - trailer < subject_bytes) return false;
  memcpy(&who->pid, fields, sizeof(who->pid));
  memcpy(&who->tid, fields + (task ? kTaskTidOffset : sizeof(who->pid)), sizeof(who->tid));
  who->has_tid = true;
  if (task && !who->has_time) {
    memcpy(&who->time, fields + kTaskTimeOffset, sizeof(who->time));
    who->has_time = who->time != 0;
  }
  return true;
}

void SkipReadValues(FieldReader& in, uint64_t read_format) {
  const uint64_t times = ((read_format & PERF_FORMAT_TOTAL_TIME_ENABLED) ? 1 : 0) +
                         ((read_format & PERF_FORMAT_TOTAL_TIME_RUNNING) ? 1 : 0);
  const uint64_t per_value =
      1 + ((read_format & PERF_FORMAT_ID) ? 1 : 0) + ((read_format & PERF_FORMAT_LOST) ? 1 : 0);
  if ((read_format & PERF_FORMAT_GROUP) == 0) {
    in.SkipWords(times + per_value);
    return;
  }
  const uint64_t values = in.U64();
  in.SkipWords(times);
  in.SkipWords(values > kMaxRecordBytes ? ~uint64_t{0} : values * per_value);
}

Registers ReadRegisters(FieldReader& in, uint64_t mask) {
  Registers registers;
  registers.mask = mask;
  registers.abi = in.U64();
  if (registers.abi == PERF_SAMPLE_REGS_ABI_NONE) return registers;
  registers.values = in.Items<uint64_t>(static_cast<uint64_t>(std::popcount(mask)));
  return registers;
}

void ReadUserStack(FieldReader& in, SampleRecord* sample) {
  sample->user_stack = {};
  sample->user_stack_asked = in.U64();
  if (sample->user_stack_asked == 0) return;  // no user stack here; no dyn_size either
  const std::span<const std::byte> room = in.Bytes(sample->user_stack_asked);
  const uint64_t copied = in.U64();
  if (in.ok()) sample->user_stack = room.first(std::min<uint64_t>(copied, room.size()));
}

// Which of the optional parts of a branch stack were really written. The kernel leaves out the
// hardware index where it has no branch stack to give, and the counters where the PMU has none.
struct BranchLayout {
  bool hw_index;
  bool counters;
};

// Reads everything from the branch stack on.
void ReadFromBranchStackOn(FieldReader& in, const RecordFormat& format, BranchLayout layout,
                           SampleRecord* sample) {
  const uint64_t type = format.sample_type;
  if (type & PERF_SAMPLE_BRANCH_STACK) {
    const uint64_t count = in.U64();
    sample->branch_stack.hw_index.reset();
    if (layout.hw_index) sample->branch_stack.hw_index = in.U64();
    sample->branch_stack.branches = in.Items<Branch>(count);
    if (layout.counters) in.SkipWords(count);
    sample->has_branch_stack = in.ok();
  }
  if (type & PERF_SAMPLE_REGS_USER) {
    sample->user_regs = ReadRegisters(in, format.sample_regs_user);
  }
  if (type & PERF_SAMPLE_STACK_USER) ReadUserStack(in, sample);
  if (type & (PERF_SAMPLE_WEIGHT | PERF_SAMPLE_WEIGHT_STRUCT)) in.U64();
  if (type & PERF_SAMPLE_DATA_SRC) in.U64();
  if (type & PERF_SAMPLE_TRANSACTION) in.U64();
  if (type & PERF_SAMPLE_REGS_INTR) ReadRegisters(in, format.sample_regs_intr);
  if (type & PERF_SAMPLE_PHYS_ADDR) in.U64();
  // From here on the kernel's order differs from the comment in <linux/perf_event.h>: see
  // perf_output_sample() in kernel/events/core.c.
  if (type & PERF_SAMPLE_CGROUP) sample->cgroup = in.U64();
  if (type & PERF_SAMPLE_DATA_PAGE_SIZE) in.U64();
  if (type & PERF_SAMPLE_CODE_PAGE_SIZE) in.U64();
  if (type & PERF_SAMPLE_AUX) in.Bytes(in.U64());
}

// Only the record's size tells which parts of the branch stack are there: the layout that accounts
// for every byte is the right one; failing that (fields that this build does not know follow), the
// first that fits.
bool ReadBranchStackByFit(const FieldReader& from, const RecordFormat& format,
                          SampleRecord* sample) {
  const bool branches = (format.sample_type & PERF_SAMPLE_BRANCH_STACK) != 0;
  const bool hw_index = branches && (format.branch_sample_type & PERF_SAMPLE_BRANCH_HW_INDEX) != 0;
  const bool counters = branches && (format.branch_sample_type & kBranchCounters) != 0;
  const BranchLayout layouts[] = {
      {hw_index, counters}, {hw_index, false}, {false, counters}, {false, false}};
  std::optional<BranchLayout> fitting;
  for (const BranchLayout layout : layouts) {
    FieldReader in = from;
    ReadFromBranchStackOn(in, format, layout, sample);
    if (in.ok() && in.left() == 0) return true;
    if (in.ok() && !fitting) fitting = layout;
    if (!hw_index && !counters) break;
  }
  if (!fitting) return false;
  FieldReader in = from;
  ReadFromBranchStackOn(in, format, *fitting, sample);
  return true;
}

MmapRecord ReadMmap(FieldReader& in, const perf_event_header* header) {
  MmapRecord map;
  map.pid = in.S32();
  map.tid = in.S32();
  map.start = in.U64();
  map.length = in.U64();
  map.file_offset = in.U64();
  map.kernel = (header->misc & PERF_RECORD_MISC_CPUMODE_MASK) == PERF_RECORD_MISC_KERNEL;
  if (header->type == PERF_RECORD_MMAP) {
    map.executable = (header->misc & PERF_RECORD_MISC_MMAP_DATA) == 0;
  } else {
    if (header->misc & PERF_RECORD_MISC_MMAP_BUILD_ID) {
      const uint32_t size = in.U32() & 0xff;  // a byte of size, three reserved
      const std::span<const std::byte> build_id = in.Bytes(kBuildIdBytes);
      if (in.ok() && size <= kBuildIdBytes) map.file.build_id = build_id.first(size);
    } else {
      map.file.major = in.U32();
      map.file.minor = in.U32();
      map.file.inode = in.U64();
      map.file.inode_generation = in.U64();
    }
    const uint32_t protection = in.U32();
    in.U32();  // flags
    // perf leaves the protection of the kernel's text and of modules zero.
    map.executable = map.kernel || (protection & PROT_EXEC) != 0;
  }
  map.path = in.Text();
  return map;
}

TaskRecord ReadTask(FieldReader& in, const perf_event_header* header) {
  TaskRecord task;
  task.exit = header->type == PERF_RECORD_EXIT;
  task.pid = in.S32();
  task.ppid = in.S32();
  task.tid = in.S32();
  task.ptid = in.S32();
  task.time = in.U64();
  return task;
}

KsymbolRecord ReadKsymbol(FieldReader& in) {
  KsymbolRecord symbol;
  symbol.address = in.U64();
  symbol.length = in.U32();
  in.U16();  // PERF_RECORD_KSYMBOL_TYPE_…
  symbol.unregister = (in.U16() & PERF_RECORD_KSYMBOL_FLAGS_UNREGISTER) != 0;
  symbol.name = in.Text();
  return symbol;
}

// Any record that is not a sample, without who wrote it.
Record ReadSideBand(FieldReader& in, const perf_event_header* header) {
  switch (header->type) {
    case PERF_RECORD_MMAP:
    case PERF_RECORD_MMAP2:
      return ReadMmap(in, header);
    case PERF_RECORD_COMM: {
      CommRecord comm;
      comm.exec = (header->misc & PERF_RECORD_MISC_COMM_EXEC) != 0;
      comm.pid = in.S32();
      comm.tid = in.S32();
      comm.comm = in.Text();
      return comm;
    }
    case PERF_RECORD_FORK:
    case PERF_RECORD_EXIT:
      return ReadTask(in, header);
    case PERF_RECORD_LOST:
    case PERF_RECORD_LOST_SAMPLES: {
      LostRecord lost;
      lost.samples_only = header->type == PERF_RECORD_LOST_SAMPLES;
      if (!lost.samples_only) in.U64();  // the id of the event that found room again
      lost.count = in.U64();
      return lost;
    }
    case PERF_RECORD_THROTTLE:
    case PERF_RECORD_UNTHROTTLE: {
      ThrottleRecord throttle;
      throttle.throttled = header->type == PERF_RECORD_THROTTLE;
      in.SkipWords(3);  // time, id, stream_id
      return throttle;
    }
    case PERF_RECORD_KSYMBOL:
      return ReadKsymbol(in);
    case kRecordCallchainDeferred: {
      CallchainDeferredRecord deferred;
      deferred.cookie = in.U64();
      deferred.ips = in.Items<uint64_t>(in.U64());
      return deferred;
    }
    default: {
      OtherRecord other;
      other.type = header->type;
      return other;
    }
  }
}

}  // namespace

RecordFormat RecordFormat::FromAttr(const perf_event_attr& attr) {
  RecordFormat format;
  format.sample_type = attr.sample_type;
  format.read_format = attr.read_format;
  format.branch_sample_type = attr.branch_sample_type;
  format.sample_regs_user = attr.sample_regs_user;
  format.sample_regs_intr = attr.sample_regs_intr;
  format.sample_id_all = attr.sample_id_all != 0;
  return format;
}

std::optional<uint64_t> Registers::Get(unsigned index) const {
  if (index >= 64 || ((mask >> index) & 1) == 0) return std::nullopt;
  const uint64_t below = mask & ((uint64_t{1} << index) - 1);
  const size_t rank = static_cast<size_t>(std::popcount(below));
  if (rank >= values.size()) return std::nullopt;
  return values[rank];
}

absl::StatusOr<Record> DecodeSample(uint16_t misc, std::span<const std::byte> fields,
                                    const RecordFormat& format) {
  // In place: a Record is too large to be moved for nothing.
  absl::StatusOr<Record> record(absl::in_place, std::in_place_type<SampleRecord>);
  SampleRecord& sample = std::get<SampleRecord>(*record);
  sample.cpumode = misc & PERF_RECORD_MISC_CPUMODE_MASK;
  const uint64_t type = format.sample_type;
  FieldReader in(fields);
  uint64_t identifier = 0;
  if (type & PERF_SAMPLE_IDENTIFIER) identifier = in.U64();
  if (type & PERF_SAMPLE_IP) {
    sample.ip = in.U64();
    sample.has_ip = true;
  }
  ReadWho(in, type, /*is_sample=*/true, &sample.who, &sample.addr);
  if (type & PERF_SAMPLE_IDENTIFIER) sample.who.id = identifier;
  if (type & PERF_SAMPLE_PERIOD) sample.period = in.U64();
  if (type & PERF_SAMPLE_READ) SkipReadValues(in, format.read_format);
  if (type & PERF_SAMPLE_CALLCHAIN) {
    sample.callchain = in.Items<uint64_t>(in.U64());
    sample.has_callchain = in.ok();
  }
  if (type & PERF_SAMPLE_RAW) in.Bytes(in.U32());
  if (!in.ok() || !ReadBranchStackByFit(in, format, &sample)) {
    record = TooShort(PERF_RECORD_SAMPLE, sizeof(perf_event_header) + fields.size());
  }
  return record;  // the only one, so that it is not moved
}

absl::StatusOr<Record> DecodeRecord(const perf_event_header* header, const RecordFormat& format) {
  if (header->size < sizeof(*header)) return TooShort(header);
  if (header->type == PERF_RECORD_SAMPLE) {
    return DecodeSample(header->misc, {Begin(header) + sizeof(*header), End(header)}, format);
  }
  SampleId who;
  if (!ReadTrailer(header, format, &who)) return TooShort(header);
  FieldReader in(Begin(header) + sizeof(*header), End(header) - TrailerBytes(format));
  absl::StatusOr<Record> record = ReadSideBand(in, header);
  if (!in.ok()) return TooShort(header);
  std::visit([&](auto& kind) { kind.who = who; }, *record);
  return record;
}

std::optional<SampleId> PeekRecord(const perf_event_header* header, const RecordFormat& format) {
  std::optional<SampleId> who(std::in_place);
  if (header->size < sizeof(*header)) {
    who.reset();
  } else if (header->type != PERF_RECORD_SAMPLE) {
    if (!ReadTrailer(header, format, &*who)) who.reset();
  } else {
    const uint64_t type = format.sample_type;
    FieldReader in(Begin(header) + sizeof(*header), End(header));
    uint64_t identifier = 0;
    uint64_t addr = 0;
    if (type & PERF_SAMPLE_IDENTIFIER) identifier = in.U64();
    if (type & PERF_SAMPLE_IP) in.U64();
    ReadWho(in, type, /*is_sample=*/true, &*who, &addr);
    if (type & PERF_SAMPLE_IDENTIFIER) who->id = identifier;
    if (!in.ok()) who.reset();
  }
  return who;
}

std::optional<uint64_t> PeekIdentifier(const perf_event_header* header) {
  if (header->size < sizeof(*header) + kWord) return std::nullopt;
  uint64_t id;
  memcpy(&id,
         header->type == PERF_RECORD_SAMPLE ? Begin(header) + sizeof(*header) : End(header) - kWord,
         sizeof(id));
  return id;
}

}  // namespace lbrd::pmu
