#include "pmu/installer.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace lbrd::pmu {

void Installed::Release() {
  // Samples first, so that the side band covers all of them.
  for (const std::shared_ptr<Event>& event : sampling) event->Release();
  if (side_band != nullptr) side_band->Release();
}

Installer::Installer(Kernel& kernel, RingSet* rings, const std::vector<SourceEvent>* events,
                     EventCode code)
    : kernel_(kernel),
      rings_(rings),
      events_(*events),
      code_(std::move(code)),
      core_types_(CoreTypes::Read(kernel)),
      sampling_root_(Event::MakeRoot(kernel)),
      side_band_root_(Event::MakeRoot(kernel)) {}

Installer::~Installer() {
  sampling_root_->Release();
  side_band_root_->Release();
}

absl::StatusOr<std::shared_ptr<Event>> Installer::Open(const std::shared_ptr<Event>& root,
                                                       const perf_event_attr& attr,
                                                       const EventPlace& place,
                                                       absl::string_view where) {
  std::shared_ptr<Event> event = Event::Inherit(root, attr, place, &last_error_);
  if (event == nullptr) return ExplainOpenError(last_error_, code_, where);
  return event;
}

absl::Status Installer::ShareRing(const Event& event, const Event& owner, absl::string_view where) {
  const Event::Use from(event);
  const Event::Use to(owner);
  const int error = kernel_.Control(from.fd(), PERF_EVENT_IOC_SET_OUTPUT,
                                    static_cast<uint64_t>(static_cast<int64_t>(to.fd())));
  if (error == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(-error, absl::StrCat("cannot share the ring of ", where));
}

absl::Status Installer::InstallAll(const EventPlace& sampling, const EventPlace& side_band,
                                   const RingChoice& ring, absl::string_view where,
                                   Installed* out) {
  const perf_event_attr& asked = events_[kSamplingEvent].attr;
  std::vector<perf_event_attr> attrs;
  if (sampling.cpu < 0) {
    attrs = core_types_.OnAnyCpu(asked);
  } else if (const auto here = core_types_.OnCpu(asked, sampling.cpu); here.has_value()) {
    attrs.push_back(*here);
  } else {
    return absl::UnimplementedError(
        absl::StrCat("'", code_.name, "' is not counted by the kind of core that ", where, " is"));
  }
  auto opened = Open(side_band_root_, events_[kSideBandEvent].attr, side_band, where);
  if (!opened.ok()) return opened.status();
  out->side_band = *std::move(opened);
  for (const perf_event_attr& attr : attrs) {
    opened = Open(sampling_root_, attr, sampling, where);
    if (!opened.ok()) return opened.status();
    out->sampling.push_back(*std::move(opened));
  }
  // The ring is the (first) sampling event's: who is lent that maps the ring by it, and no other
  // event's descriptor may (EBUSY).
  const Event* owner = out->sampling[0].get();
  if (ring.share != nullptr) {
    owner = ring.share->sampling[0].get();
    out->ring = ring.share->ring;
  } else {
    absl::StatusOr<Ring*> mapped = rings_->Map(*owner, ring.bytes, where);
    if (!mapped.ok()) return mapped.status();
    out->ring = *mapped;
  }
  for (const std::shared_ptr<Event>& event : out->sampling) {
    if (event.get() == owner) continue;
    if (absl::Status shared = ShareRing(*event, *owner, where); !shared.ok()) return shared;
  }
  if (absl::Status shared = ShareRing(*out->side_band, *owner, where); !shared.ok()) return shared;
  return absl::OkStatus();
}

absl::Status Installer::Lend(int32_t cpu,
                             const std::function<absl::Status(const LentEvent&)>& take) const {
  OnCpu lent;
  {
    absl::MutexLock lock(&mutex_);
    const auto found = on_cpu_.find(cpu);
    if (found != on_cpu_.end()) lent = found->second;
  }
  if (lent.event != nullptr) {
    const Event::Use use(*lent.event);
    if (use.fd() >= 0) return take({use.fd(), lent.ring_bytes, lent.attr});
  }
  return absl::NotFoundError(absl::StrCat("the session has no event on CPU ", cpu));
}

absl::StatusOr<Installed> Installer::Install(const EventPlace& sampling,
                                             const EventPlace& side_band, const RingChoice& ring,
                                             absl::string_view where) {
  Installed installed;
  last_error_ = 0;
  absl::Status done = InstallAll(sampling, side_band, ring, where, &installed);
  if (done.ok()) {
    if (sampling.cpu >= 0) {
      absl::MutexLock lock(&mutex_);
      // The newest on that CPU; of a process, its first thread's.
      OnCpu& lent = on_cpu_[sampling.cpu];
      if (lent.event == nullptr || lent.event->hung_up()) {
        lent = {installed.sampling[0], events_[kSamplingEvent].attr, installed.ring->data_bytes()};
      }
    }
    return installed;
  }
  if (ring.share == nullptr && installed.ring != nullptr) rings_->Retire(installed.ring);
  installed.Release();
  return done;
}

}  // namespace lbrd::pmu
