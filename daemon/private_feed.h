// A feed that is the session's own: its events (or its recording), and a pipeline behind them.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "daemon/pipeline.h"
#include "daemon/session_feed.h"
#include "daemon/session_source.h"
#include "unwind/binary.h"

namespace lbrd::daemon {

// A recording is read in order by one worker, so that the same file always gives the same output. A
// machine's samples are spread: one worker resolves what some sixteen CPUs produce at 1 kHz.
size_t WorkersFor(bool recording, uint32_t cpus);

class PrivateFeed : public SessionFeed {
 public:
  // `machine_binaries` serves sources that have no files of their own; it must outlive this.
  PrivateFeed(SessionSource source, const v1::SessionSpec& spec,
              unwind::BinaryCache* machine_binaries);
  ~PrivateFeed() override;

  absl::Status Begin(absl::Duration duration, SampleSink* sink,
                     std::function<void(const absl::Status&)> done) override;
  void RequestStop() override;
  bool patient() const override { return patient_; }
  FeedStats stats() const override;
  std::vector<Progress> progress() const override { return pipeline_->progress(); }
  void Describe(v1::Session* out) const override;
  absl::Status Lend(int32_t cpu,
                    const std::function<absl::Status(const pmu::LentEvent&)>& take) const override {
    return pipeline_->source().LendEvent(cpu, take);
  }

 private:
  // Where the pipeline's samples go: those that the filter lets through, to the sink.
  class Outlet : public SampleSink {
   public:
    Outlet(std::string comm, std::vector<int32_t> cpus)
        : comm_(std::move(comm)), cpus_(std::move(cpus)) {}
    void set_sink(SampleSink* sink) { sink_ = sink; }
    void Deliver(std::span<const Sample> samples) override;
    uint64_t other_comm() const { return other_comm_; }
    uint64_t other_cpu() const { return other_cpu_; }

   private:
    const std::string comm_;           // empty: any
    const std::vector<int32_t> cpus_;  // empty: all
    SampleSink* sink_ = nullptr;
    std::atomic<uint64_t> other_comm_ = 0;
    std::atomic<uint64_t> other_cpu_ = 0;
  };

  // What the pipeline borrows, before the pipeline itself.
  SessionSource source_;
  const bool patient_;
  std::vector<std::string> notes_;
  std::unique_ptr<unwind::BinaryCache> own_binaries_;
  Outlet outlet_;
  std::unique_ptr<Pipeline> pipeline_;
};

}  // namespace lbrd::daemon
