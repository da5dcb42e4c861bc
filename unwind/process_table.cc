#include "unwind/process_table.h"

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "unwind/jit_code.h"

namespace lbrd::unwind {
namespace {

std::string BuildIdHex(std::span<const std::byte> build_id) {
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(build_id.data()), build_id.size()));
}

}  // namespace

const std::string& Process::Comm(int32_t tid) const {
  static const std::string* const kUnknown = new std::string;
  const std::string* name = comms.Find(tid);
  // A thread without a name of its own that we heard of has its creator's, as in the kernel.
  if (name == nullptr) name = comms.Find(pid);
  return name == nullptr ? *kUnknown : *name;
}

Process& ProcessTable::Get(int32_t pid) {
  std::unique_ptr<Entry>& entry = processes_[pid];
  if (entry != nullptr) {
    by_age_.splice(by_age_.begin(), by_age_, entry->age);
    return entry->process;
  }
  by_age_.push_front(pid);
  entry = std::make_unique<Entry>();
  entry->age = by_age_.begin();
  Process& process = entry->process;
  process.pid = pid;
  if (pid == 0) process.comms.Set(0, "swapper");  // the idle tasks, whose name no record tells
  if (processes_.size() > kMaxProcesses) {
    processes_.erase(by_age_.back());
    by_age_.pop_back();
    ++forgotten_;
  }
  return process;
}

void ProcessTable::Apply(const pmu::MmapRecord& record) {
  if (!record.executable || record.kernel || record.length == 0 ||
      record.start + record.length < record.start) {
    return;
  }
  const FileIdentity identity{.path = std::string(record.path),
                              .build_id = BuildIdHex(record.file.build_id),
                              .major = record.file.major,
                              .minor = record.file.minor,
                              .inode = record.file.inode};
  Process& process = Get(record.pid);
  const std::shared_ptr<const Binary> binary = binaries_->Get(record.pid, identity, process.elders);
  const bool dump = IsJitDump(identity.path);
  if (jit_ == Jit::kKept && (dump || !binary->has_file())) {
    // A forked process has its parent's until it makes code of its own.
    if (process.jit == nullptr || process.jit->pid() != record.pid) {
      process.jit = binaries_->NewJitCode(record.pid, std::move(process.jit));
    }
    dump ? process.jit->AddDump(identity) : process.jit->LookForMap(record.who.time);
  }
  process.space.Map({.start = record.start,
                     .end = record.start + record.length,
                     .file_offset = record.file_offset,
                     .binary = binary});
}

void ProcessTable::Apply(const pmu::CommRecord& record) {
  Process& process = Get(record.pid);
  if (record.exec) {
    process.space.Clear();
    process.comms.Clear();
    process.jit.reset();
  }
  process.comms.Set(record.tid, record.comm);
}

void ProcessTable::Apply(const pmu::TaskRecord& record) {
  if (record.exit) {
    const auto found = processes_.find(record.pid);
    if (found == processes_.end()) return;
    found->second->process.comms.Forget(record.tid);
    // The group leader may exit before its threads: only the last thread takes the process along.
    if (found->second->process.comms.empty()) {
      by_age_.erase(found->second->age);
      processes_.erase(found);
    }
    return;
  }
  if (record.pid != record.ppid) {
    // A copy of the parent, from before either goes on; whatever had this pid is gone.
    const Process& parent = Get(record.ppid);
    AddressSpace space = parent.space;
    std::shared_ptr<JitCode> jit = parent.jit;
    const std::string comm = parent.Comm(record.ptid);
    const std::array<int32_t, 3> elders = {record.ppid, parent.elders[0], parent.elders[1]};
    Process& child = Get(record.pid);
    child.elders = elders;
    child.space = std::move(space);
    child.jit = std::move(jit);
    child.comms.Clear();
    child.comms.Set(record.tid, comm);
    return;
  }
  Process& process = Get(record.pid);
  const std::string comm = process.Comm(record.ptid);  // a copy: the table it is in may grow
  process.comms.Set(record.tid, comm);
}

}  // namespace lbrd::unwind
