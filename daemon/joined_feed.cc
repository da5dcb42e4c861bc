#include "daemon/joined_feed.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace lbrd::daemon {

void JoinedFeed::Outlet::Deliver(std::span<const Sample> samples) {
  std::vector<Sample> numbered(samples.begin(), samples.end());
  for (Sample& sample : numbered) sample.event = event_;
  sink_->Deliver(numbered);
}

JoinedFeed::JoinedFeed(std::vector<std::unique_ptr<SessionFeed>> feeds)
    : feeds_(std::move(feeds)) {}

JoinedFeed::~JoinedFeed() { feeds_.clear(); }

absl::Status JoinedFeed::Begin(absl::Duration duration, SampleSink* sink,
                               std::function<void(const absl::Status&)> done) {
  {
    absl::MutexLock lock(&mutex_);
    // All of them: none that is through early is to be taken for the last.
    running_ = feeds_.size();
    done_ = std::move(done);
  }
  absl::Status begun;
  size_t begun_count = 0;
  for (; begun_count < feeds_.size(); ++begun_count) {
    outlets_.push_back(std::make_unique<Outlet>(static_cast<uint32_t>(begun_count), sink));
    begun = feeds_[begun_count]->Begin(duration, outlets_.back().get(),
                                       [this](const absl::Status& status) { Ended(status); });
    if (!begun.ok()) break;
  }
  if (begun.ok()) {
    bool stop = false;
    {
      absl::MutexLock lock(&mutex_);
      stop = stop_;
    }
    // One that had not begun did not hear it.
    if (stop) RequestStop();
    return begun;
  }
  {
    absl::MutexLock lock(&mutex_);
    done_ = nullptr;
    running_ -= feeds_.size() - begun_count;
  }
  RequestStop();
  absl::MutexLock lock(&mutex_);
  const auto over = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return running_ == 0; };
  mutex_.Await(absl::Condition(&over));
  return begun;
}

void JoinedFeed::Ended(const absl::Status& status) {
  {
    absl::MutexLock lock(&mutex_);
    status_.Update(status);
  }
  // Nobody frees this before the last has ended.
  if (!status.ok()) RequestStop();
  std::function<void(const absl::Status&)> done;
  absl::Status first;
  {
    absl::MutexLock lock(&mutex_);
    if (--running_ != 0) return;
    done = std::move(done_);
    first = status_;
  }
  if (done) done(first);
}

void JoinedFeed::RequestStop() {
  {
    absl::MutexLock lock(&mutex_);
    stop_ = true;
  }
  for (const auto& feed : feeds_) feed->RequestStop();
}

bool JoinedFeed::shares_events() const {
  return std::any_of(feeds_.begin(), feeds_.end(),
                     [](const auto& feed) { return feed->shares_events(); });
}

FeedStats JoinedFeed::stats() const {
  FeedStats out;
  for (const auto& feed : feeds_) out += feed->stats();
  // Units of different kinds.
  out.source.kernel_count = 0;
  return out;
}

std::vector<Progress> JoinedFeed::progress() const {
  std::vector<Progress> all;
  for (const auto& feed : feeds_) {
    std::vector<Progress> some = feed->progress();
    std::move(some.begin(), some.end(), std::back_inserter(all));
  }
  return all;
}

void JoinedFeed::Describe(v1::Session* out) const {
  std::vector<std::string> notes;
  for (const auto& feed : feeds_) {
    v1::Session one;
    feed->Describe(&one);
    const std::string name = one.events_size() == 0 ? "" : one.events(0).name();
    for (v1::SessionEvent& event : *one.mutable_events()) {
      event.set_count(feed->stats().source.kernel_count);
      *out->add_events() = std::move(event);
    }
    for (std::string& note : *one.mutable_notes()) {
      if (std::find(notes.begin(), notes.end(), note) == notes.end()) {
        notes.push_back(std::move(note));
      }
    }
    if (one.has_flow() && out->has_flow()) {
      notes.push_back(absl::StrCat(name, " has a share in ", one.flow().name()));
    } else if (one.has_flow()) {
      *out->mutable_flow() = std::move(*one.mutable_flow());
    }
    out->set_cpus(std::max(out->cpus(), one.cpus()));
  }
  for (std::string& note : notes) out->add_notes(std::move(note));
}

absl::Status JoinedFeed::Lend(
    int32_t cpu, const std::function<absl::Status(const pmu::LentEvent&)>& take) const {
  return feeds_.front()->Lend(cpu, take);
}

}  // namespace lbrd::daemon
