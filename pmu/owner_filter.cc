#include "pmu/owner_filter.h"

namespace lbrd::pmu {

void OwnerFilter::Forked(int32_t pid, int32_t parent_pid, uint64_t time) {
  if (pid == parent_pid) return;
  // A look at a process of this number that was made after its birth knows more.
  if (const auto own = processes_.find(pid); own != processes_.end() && own->second.since > time) {
    return;
  }
  processes_.erase(pid);
  const auto parent = processes_.find(parent_pid);
  if (parent == processes_.end() || parent->second.since > time) return;
  // A copy first: the child's place may move the parent's.
  const Known child{.own = parent->second.own, .since = time, .looked_at = time};
  processes_[pid] = child;
}

void OwnerFilter::Executed(int32_t pid, uint64_t time) {
  const auto found = processes_.find(pid);
  if (found != processes_.end() && found->second.since <= time) processes_.erase(found);
}

void OwnerFilter::Exited(int32_t pid, uint64_t time) { Executed(pid, time); }

const OwnerFilter::Known& OwnerFilter::Look(int32_t pid) {
  const bool own = ownership_of_(pid) == Ownership::kOwn;
  // After the look: what the process was before it, is not known.
  const uint64_t now = kernel_.Now();
  Known& known = processes_[pid];
  if (!own || !known.own) known.since = now;
  known.own = own;
  known.looked_at = now;
  return known;
}

bool OwnerFilter::Wanted(int32_t pid, uint64_t time) {
  if (pid <= 0) return false;  // the kernel's own
  const auto found = processes_.find(pid);
  const Known& known = found == processes_.end() || time > found->second.looked_at + kFreshNs
                           ? Look(pid)
                           : found->second;
  return known.own && known.since <= time;
}

}  // namespace lbrd::pmu
