#include "daemon/private_feed.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/time/clock.h"
#include "daemon/planner.h"

namespace lbrd::daemon {

size_t WorkersFor(bool recording, uint32_t cpus) {
  if (recording) return 1;
  return std::clamp<size_t>((cpus + 15) / 16, 1, std::max(1u, std::thread::hardware_concurrency()));
}

void PrivateFeed::Outlet::Deliver(std::span<const Sample> samples) {
  if (comm_.empty() && cpus_.empty()) {
    sink_->Deliver(samples);
    return;
  }
  std::vector<Sample> wanted;
  for (const Sample& sample : samples) {
    if (!cpus_.empty() &&
        !std::binary_search(cpus_.begin(), cpus_.end(), static_cast<int32_t>(sample.cpu))) {
      ++other_cpu_;
    } else if (!comm_.empty() && sample.thread->comm != comm_) {
      ++other_comm_;
    } else {
      wanted.push_back(sample);
    }
  }
  if (!wanted.empty()) sink_->Deliver(wanted);
}

PrivateFeed::PrivateFeed(SessionSource source, const v1::SessionSpec& spec,
                         unwind::BinaryCache* machine_binaries)
    : source_(std::move(source)),
      patient_(source_.records->patient()),
      outlet_(spec.filter().comm(), WantedCpus(spec)) {
  if (const absl::string_view why = WhyNotShared(spec); !why.empty()) {
    notes_.emplace_back(why);
  }
  if (source_.files != nullptr) {
    own_binaries_ = std::make_unique<unwind::BinaryCache>(source_.files.get());
  }
  PipelineOptions options;
  options.workers = WorkersFor(spec.target().has_recording(), source_.cpus);
  options.tasks = source_.tasks.get();
  pipeline_ =
      std::make_unique<Pipeline>(std::move(source_.records), source_.events,
                                 own_binaries_ != nullptr ? own_binaries_.get() : machine_binaries,
                                 source_.kernel_names, &outlet_, options);
}

PrivateFeed::~PrivateFeed() { pipeline_->Join(); }

absl::Status PrivateFeed::Begin(absl::Duration duration, SampleSink* sink,
                                std::function<void(const absl::Status&)> done) {
  outlet_.set_sink(sink);
  pipeline_->set_deadline(absl::Now() + duration);
  pmu::RecordWriter known;
  if (absl::Status begun = source_.begin(&known); !begun.ok()) {
    if (source_.tasks != nullptr) source_.tasks->End();
    return begun;
  }
  pipeline_->Start(std::move(known), [this, done = std::move(done)](const absl::Status& status) {
    // No worker runs any more. Before anybody is told that it has ended.
    if (source_.tasks != nullptr) source_.tasks->End();
    done(status);
  });
  return absl::OkStatus();
}

void PrivateFeed::RequestStop() { pipeline_->RequestStop(); }

FeedStats PrivateFeed::stats() const {
  PipelineStats stats = pipeline_->stats();
  FeedStats out{.source = std::move(stats.source),
                .dropped_queue_full = stats.dropped_queue_full,
                .undecodable_samples = stats.undecodable_samples,
                .side_band_dropped = stats.side_band_dropped};
  out.lbr_windows = stats.lbr_windows;
  out.flow_samples = out.source.samples;
  out.other_comm = outlet_.other_comm();
  out.other_cpu = outlet_.other_cpu();
  out.source.samples -= out.other_comm + out.other_cpu;
  return out;
}

void PrivateFeed::Describe(v1::Session* out) const {
  for (const v1::SessionEvent& event : source_.described) *out->add_events() = event;
  AddNotes(source_, out);
  for (const std::string& note : notes_) out->add_notes(note);
  for (const std::string& note : pipeline_->source().notes()) out->add_notes(note);
  out->set_cpus(source_.cpus);
  if (source_.progress) {
    const auto [read, total] = source_.progress();
    out->mutable_stats()->set_bytes_read(read);
    out->mutable_stats()->set_bytes_total(total);
  }
}

}  // namespace lbrd::daemon
