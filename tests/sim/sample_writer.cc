#include "tests/sim/sample_writer.h"

#include <asm/perf_regs.h>

#include <algorithm>
#include <cstring>

#include "tests/sim/program.h"
#include "tests/sim/user_stack.h"

namespace lbrd::sim {
namespace {

constexpr size_t kMaxRecordWords = UINT16_MAX / 8;

uint64_t TidWord(const RecordWho& who) {
  return TwoWords(static_cast<uint32_t>(who.pid), static_cast<uint32_t>(who.tid));
}

void PutHeader(uint32_t type, uint16_t misc, std::vector<uint64_t>* out) {
  const perf_event_header header{
      .type = type, .misc = misc, .size = static_cast<uint16_t>(out->size() * 8)};
  std::memcpy(out->data(), &header, sizeof(header));
}

uint64_t RegisterValue(unsigned index, const Truth& user) {
  switch (index) {
    case PERF_REG_X86_IP:
      return user.user_ip;
    case PERF_REG_X86_SP:
      return user.stack_pointer;
    case PERF_REG_X86_BP:
      return user.frame_pointer;
    case PERF_REG_X86_FLAGS:
      return 0x246;
    case PERF_REG_X86_CS:
      return 0x33;
    case PERF_REG_X86_SS:
      return 0x2b;
    default:
      return 0x5100 + index;  // whatever the program had there
  }
}

void PutRegisters(uint64_t mask, const Truth* user, std::vector<uint64_t>* out) {
  if (user == nullptr || !user->has_user) {
    out->push_back(PERF_SAMPLE_REGS_ABI_NONE);
    return;
  }
  out->push_back(PERF_SAMPLE_REGS_ABI_64);
  for (unsigned index = 0; index < 64; ++index) {
    if (mask >> index & 1) out->push_back(RegisterValue(index, *user));
  }
}

void PutStack(uint64_t asked, const Truth* user, std::vector<uint64_t>* out) {
  if (user == nullptr || !user->has_user) {
    out->push_back(0);
    return;
  }
  // The whole record must stay below 64 KiB; its own two sizes count too.
  const size_t room = (kMaxRecordWords - out->size() - 2) * 8;
  const uint64_t bytes = std::min<uint64_t>(asked, room);
  out->push_back(bytes);
  const size_t first = out->size();
  out->resize(first + bytes / 8);
  const uint64_t copied =
      CopyUserStack(*user, std::span(out->data() + first, static_cast<size_t>(bytes / 8)));
  if (bytes != 0) out->push_back(copied);
}

}  // namespace

void BuildSample(const perf_event_attr& attr, const SampleParts& parts,
                 std::vector<uint64_t>* out) {
  const uint64_t type = attr.sample_type;
  const RecordWho& who = parts.who;
  out->assign(1, 0);
  if (type & PERF_SAMPLE_IDENTIFIER) out->push_back(who.id);
  if (type & PERF_SAMPLE_IP) out->push_back(parts.ip);
  if (type & PERF_SAMPLE_TID) out->push_back(TidWord(who));
  if (type & PERF_SAMPLE_TIME) out->push_back(who.time);
  if (type & PERF_SAMPLE_ADDR) out->push_back(parts.address);
  if (type & PERF_SAMPLE_ID) out->push_back(who.id);
  if (type & PERF_SAMPLE_STREAM_ID) out->push_back(who.stream_id);
  if (type & PERF_SAMPLE_CPU) out->push_back(who.cpu);
  if (type & PERF_SAMPLE_PERIOD) out->push_back(parts.period);
  if (type & PERF_SAMPLE_READ) {
    out->insert(out->end(), parts.read_values.begin(), parts.read_values.end());
  }
  if (type & PERF_SAMPLE_CALLCHAIN) {
    out->push_back(parts.chain.size());
    out->insert(out->end(), parts.chain.begin(), parts.chain.end());
  }
  if (type & PERF_SAMPLE_RAW) out->push_back(TwoWords(sizeof(uint32_t), 0));  // nothing, padded
  if (type & PERF_SAMPLE_BRANCH_STACK) {
    out->push_back(parts.has_branches ? parts.branches.size() : 0);
    if (parts.has_branches && (attr.branch_sample_type & PERF_SAMPLE_BRANCH_HW_INDEX) != 0) {
      out->push_back(parts.hw_index);
    }
    if (parts.has_branches) {
      for (const pmu::Branch& branch : parts.branches) {
        out->insert(out->end(), {branch.from, branch.to, branch.flags});
      }
    }
  }
  if (type & PERF_SAMPLE_REGS_USER) PutRegisters(attr.sample_regs_user, parts.user, out);
  if (type & PERF_SAMPLE_STACK_USER) PutStack(attr.sample_stack_user, parts.user, out);
  if (type & PERF_SAMPLE_WEIGHT) out->push_back(0);
  if (type & PERF_SAMPLE_DATA_SRC) out->push_back(0);
  if (type & PERF_SAMPLE_CGROUP) out->push_back(parts.cgroup);
  PutHeader(PERF_RECORD_SAMPLE, parts.misc, out);
}

void BuildTrailer(const perf_event_attr& attr, const RecordWho& who, std::vector<uint64_t>* out) {
  out->clear();
  if (!attr.sample_id_all) return;
  const uint64_t type = attr.sample_type;
  if (type & PERF_SAMPLE_TID) out->push_back(TidWord(who));
  if (type & PERF_SAMPLE_TIME) out->push_back(who.time);
  if (type & PERF_SAMPLE_ID) out->push_back(who.id);
  if (type & PERF_SAMPLE_STREAM_ID) out->push_back(who.stream_id);
  if (type & PERF_SAMPLE_CPU) out->push_back(who.cpu);
  if (type & PERF_SAMPLE_IDENTIFIER) out->push_back(who.id);
}

void BuildRecord(uint32_t type, uint16_t misc, std::span<const uint64_t> fields,
                 const std::string* text, std::span<const uint64_t> trailer,
                 std::vector<uint64_t>* out) {
  out->assign(1, 0);
  out->insert(out->end(), fields.begin(), fields.end());
  if (text != nullptr) {
    const size_t first = out->size();
    out->resize(first + (text->size() + 1 + 7) / 8);
    std::memcpy(out->data() + first, text->data(), text->size());
  }
  out->insert(out->end(), trailer.begin(), trailer.end());
  PutHeader(type, misc, out);
}

void BuildChain(const perf_event_attr& attr, const Truth& truth, uint32_t max_ips,
                std::vector<uint64_t>* out) {
  out->clear();
  uint32_t left = max_ips;
  const auto put = [&](uint64_t ip) {
    if (left == 0) return;
    --left;
    out->push_back(ip);
  };
  if (!attr.exclude_callchain_kernel && truth.in_kernel) {
    out->push_back(static_cast<uint64_t>(PERF_CONTEXT_KERNEL));
    for (const uint64_t ip : truth.kernel) put(ip);
  }
  if (attr.exclude_callchain_user || !truth.has_user) return;
  if (truth.cookie != 0) {
    out->push_back(pmu::kContextUserDeferred);
    put(truth.cookie);
    return;
  }
  out->push_back(static_cast<uint64_t>(PERF_CONTEXT_USER));
  put(truth.user_ip);
  for (const uint64_t site : truth.call_sites) put(site + kCallBytes);
}

}  // namespace lbrd::sim
