#include "unwind/dwarf_unwinder.h"

#include <asm/perf_regs.h>
#include <elf.h>
#include <libunwind-x86_64.h>

#include <algorithm>
#include <cstring>

extern "C" {
// Exported by libunwind-x86_64, declared in no installed header.
int _Ux86_64_dwarf_search_unwind_table(unw_addr_space_t as, unw_word_t ip, unw_dyn_info_t* di,
                                       unw_proc_info_t* pi, int need_unwind_info, void* arg);
}

namespace lbrd::unwind {
namespace {

// perf_regs.h's number of each libunwind register.
constexpr uint8_t kPerfRegister[] = {
    PERF_REG_X86_AX,  PERF_REG_X86_DX,  PERF_REG_X86_CX,  PERF_REG_X86_BX,  PERF_REG_X86_SI,
    PERF_REG_X86_DI,  PERF_REG_X86_BP,  PERF_REG_X86_SP,  PERF_REG_X86_R8,  PERF_REG_X86_R9,
    PERF_REG_X86_R10, PERF_REG_X86_R11, PERF_REG_X86_R12, PERF_REG_X86_R13, PERF_REG_X86_R14,
    PERF_REG_X86_R15, PERF_REG_X86_IP};

// What libunwind's questions are answered from, for one sample.
struct Context {
  const AddressSpace* space;
  const pmu::Registers* registers;  // null: only the instruction pointer matters
  uint64_t ip = 0;
  uint64_t stack_start = 0;
  std::span<const std::byte> stack;
  // What went wrong since last cleared.
  bool beyond_copy = false;
  bool no_info = false;
  bool no_binary = false;
  bool no_mapping = false;
};

bool ReadMapped(const AddressSpace& space, uint64_t address, std::span<std::byte> out) {
  const Mapping* mapping = space.Find(address);
  if (mapping != nullptr) {
    const std::optional<uint64_t> at = mapping->FileAddress(address);
    return at.has_value() && mapping->binary->ReadMemory(*at, out);
  }
  // Only executable mappings are known, while unwind tables stand in read-only ones beside them. A
  // file's segments keep their distances, so the binary that is mapped just above or below tells.
  const auto& mappings = space.mappings();
  const auto after = std::partition_point(mappings.begin(), mappings.end(),
                                          [&](const Mapping& m) { return m.end <= address; });
  const auto try_mapping = [&](const Mapping& near) {
    const std::optional<uint64_t> base = near.FileAddress(near.start);
    return base.has_value() && near.binary->ReadMemory(address - near.start + *base, out);
  };
  if (after != mappings.begin() && try_mapping(*(after - 1))) return true;
  return after != mappings.end() && try_mapping(*after);
}

int FindProcInfo(unw_addr_space_t as, unw_word_t ip, unw_proc_info_t* info, int need_unwind_info,
                 void* arg) {
  auto* context = static_cast<Context*>(arg);
  context->no_info = true;  // unless found
  const Mapping* mapping = context->space->Find(ip);
  if (mapping == nullptr) {
    context->no_mapping = true;
    return -UNW_ENOINFO;
  }
  if (!mapping->binary->readable()) {
    // Code made at run time has no file, and so no call frame information to be read.
    context->no_binary = mapping->binary->has_file();
    return -UNW_ENOINFO;
  }
  const Binary::UnwindInfo* unwind = mapping->binary->unwind_info();
  const std::optional<uint64_t> base = mapping->FileAddress(mapping->start);
  // .eh_frame_hdr: version, three encodings, pointer to .eh_frame, count, then the sorted table.
  // Only the encodings that every linker writes are searched: 4-byte pc-relative, udata4 count,
  // 4-byte table entries relative to the header.
  if (unwind == nullptr || !base.has_value() || unwind->header.size() < 12) return -UNW_ENOINFO;
  const auto* bytes = reinterpret_cast<const uint8_t*>(unwind->header.data());
  if (bytes[0] != 1 || bytes[2] != 0x03 || bytes[3] != 0x3b) return -UNW_ENOINFO;
  uint32_t count;
  std::memcpy(&count, bytes + 8, sizeof(count));
  count = static_cast<uint32_t>(std::min<uint64_t>(count, (unwind->header.size() - 12) / 8));
  if (count == 0) return -UNW_ENOINFO;

  const uint64_t header = mapping->start - *base + unwind->header_address;
  unw_dyn_info_t table{};
  table.start_ip = mapping->start;
  table.end_ip = mapping->end;
  table.format = UNW_INFO_FORMAT_REMOTE_TABLE;
  table.u.rti.segbase = header;
  table.u.rti.table_data = header + 12;
  table.u.rti.table_len = count * 8 / sizeof(unw_word_t);
  const int result =
      _Ux86_64_dwarf_search_unwind_table(as, ip, &table, info, need_unwind_info, arg);
  if (result == 0) context->no_info = false;
  return result;
}

void PutUnwindInfo(unw_addr_space_t, unw_proc_info_t*, void*) {}

int GetDynInfo(unw_addr_space_t, unw_word_t*, void*) { return -UNW_ENOINFO; }

int AccessMemory(unw_addr_space_t, unw_word_t address, unw_word_t* value, int write, void* arg) {
  auto* context = static_cast<Context*>(arg);
  if (write != 0) return -UNW_EINVAL;
  const uint64_t size = context->stack.size();
  if (address >= context->stack_start && size >= sizeof(*value) &&
      address - context->stack_start <= size - sizeof(*value)) {
    std::memcpy(value, context->stack.data() + (address - context->stack_start), sizeof(*value));
    return 0;
  }
  if (ReadMapped(*context->space, address, std::as_writable_bytes(std::span(value, 1)))) {
    return 0;
  }
  context->beyond_copy = address >= context->stack_start;
  return -UNW_EINVAL;
}

int AccessRegister(unw_addr_space_t, unw_regnum_t number, unw_word_t* value, int write, void* arg) {
  auto* context = static_cast<Context*>(arg);
  if (write != 0 || number < 0 || number >= static_cast<int>(std::size(kPerfRegister))) {
    return -UNW_EBADREG;
  }
  if (context->registers == nullptr) {
    *value = number == UNW_X86_64_RIP ? context->ip : 0;
    return 0;
  }
  const std::optional<uint64_t> recorded = context->registers->Get(kPerfRegister[number]);
  if (!recorded.has_value()) return -UNW_EBADREG;
  *value = *recorded;
  return 0;
}

int AccessFpRegister(unw_addr_space_t, unw_regnum_t, unw_fpreg_t*, int, void*) {
  return -UNW_EBADREG;
}

int Resume(unw_addr_space_t, unw_cursor_t*, void*) { return -UNW_EINVAL; }

int GetProcName(unw_addr_space_t, unw_word_t, char*, size_t, unw_word_t*, void*) {
  return -UNW_ENOINFO;
}

unw_accessors_t Accessors() {
  unw_accessors_t accessors{};
  accessors.find_proc_info = FindProcInfo;
  accessors.put_unwind_info = PutUnwindInfo;
  accessors.get_dyn_info_list_addr = GetDynInfo;
  accessors.access_mem = AccessMemory;
  accessors.access_reg = AccessRegister;
  accessors.access_fpreg = AccessFpRegister;
  accessors.resume = Resume;
  accessors.get_proc_name = GetProcName;
  return accessors;
}

Verdict Truncated(StackReason reason) { return {StackState::kTruncated, reason}; }

}  // namespace

struct DwarfUnwinder::Cached {
  std::list<int32_t>::iterator age;
  unw_addr_space_t address_space;
  uint64_t generation = 0;
  // By ip; emptied with the rest.
  absl::flat_hash_map<uint64_t, bool> thread_starts;

  explicit Cached(Caching caching) {
    static unw_accessors_t accessors = Accessors();
    address_space = unw_create_addr_space(&accessors, 0);
    // The "global" cache is the one per address space; the per-thread one is shared by all of them.
    if (address_space == nullptr) return;
    unw_set_caching_policy(address_space,
                           caching == Caching::kOn ? UNW_CACHE_GLOBAL : UNW_CACHE_NONE);
  }
  ~Cached() {
    if (address_space != nullptr) unw_destroy_addr_space(address_space);
  }
  Cached(const Cached&) = delete;
  Cached& operator=(const Cached&) = delete;
};

DwarfUnwinder::DwarfUnwinder(Caching caching) : caching_(caching) {}
DwarfUnwinder::~DwarfUnwinder() = default;

DwarfUnwinder::Cached& DwarfUnwinder::CacheOf(int32_t pid, const AddressSpace& space) {
  std::unique_ptr<Cached>& cached = cached_[pid];
  if (cached == nullptr) {
    by_age_.push_front(pid);
    cached = std::make_unique<Cached>(caching_);
    cached->age = by_age_.begin();
  } else {
    by_age_.splice(by_age_.begin(), by_age_, cached->age);
    if (cached->generation != space.generation()) {
      unw_flush_cache(cached->address_space, 0, 0);
      cached->thread_starts.clear();
    }
  }
  Cached& result = *cached;
  result.generation = space.generation();
  if (cached_.size() > kMaxCached) {
    cached_.erase(by_age_.back());
    by_age_.pop_back();
  }
  return result;
}

Verdict DwarfUnwinder::Unwind(int32_t pid, const AddressSpace& space,
                              const pmu::Registers& registers, std::span<const std::byte> stack,
                              std::vector<uint64_t>* ips) {
  Cached& cached = CacheOf(pid, space);
  Context context{.space = &space,
                  .registers = &registers,
                  .stack_start = registers.Get(PERF_REG_X86_SP).value_or(0),
                  .stack = stack};
  unw_cursor_t cursor;
  if (cached.address_space == nullptr ||
      unw_init_remote(&cursor, cached.address_space, &context) != 0) {
    return Truncated(StackReason::kUnwindFailed);
  }
  for (size_t depth = 0; depth < kMaxFrames; ++depth) {
    context.no_info = context.no_binary = context.no_mapping = context.beyond_copy = false;
    const int stepped = unw_step(&cursor);
    // A step without information is libunwind's guess, whatever came of it.
    if (context.no_info) {
      return Truncated(context.no_mapping  ? StackReason::kBadAddress
                       : context.no_binary ? StackReason::kNoBinary
                                           : StackReason::kNoUnwindInfo);
    }
    if (stepped == 0) return {StackState::kComplete, StackReason::kNone};
    if (stepped < 0) {
      return Truncated(context.beyond_copy ? StackReason::kStackCopyEnded
                                           : StackReason::kUnwindFailed);
    }
    unw_word_t ip = 0;
    if (unw_get_reg(&cursor, UNW_REG_IP, &ip) != 0) return Truncated(StackReason::kUnwindFailed);
    if (ip == 0 || space.Find(ip - 1) == nullptr) return Truncated(StackReason::kBadAddress);
    ips->push_back(ip);
  }
  return Truncated(StackReason::kTooDeep);
}

bool DwarfUnwinder::IsThreadStart(int32_t pid, const AddressSpace& space, uint64_t ip) {
  Cached& cached = CacheOf(pid, space);
  absl::flat_hash_map<uint64_t, bool>& facts = cached.thread_starts;
  if (facts.size() >= kMaxThreadStarts && !facts.contains(ip)) facts.clear();
  const auto [known, is_new] = facts.try_emplace(ip, false);
  if (!is_new) return known->second;
  Context context{.space = &space, .registers = nullptr, .ip = ip};
  unw_cursor_t cursor;
  if (cached.address_space == nullptr ||
      unw_init_remote(&cursor, cached.address_space, &context) != 0) {
    return false;
  }
  // With no stack to read, a step succeeds only where the rules say that nobody is returned to.
  known->second = unw_step(&cursor) == 0 && !context.no_info;
  return known->second;
}

}  // namespace lbrd::unwind
