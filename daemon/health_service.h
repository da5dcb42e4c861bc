// gRPC's standard health check for the services of one server.
//
// gRPC brings one along, but it is asynchronous, and gRPC 1.51 wakes two threads twice a second
// each for whatever is: half of what an idle daemon costs.
//
// Thread rules: thread-safe. A watch holds a thread of gRPC's until it ends; kMaxWatches at a time.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "grpc/health/v1/health.grpc.pb.h"

namespace lbrd::daemon {

class HealthService final : public grpc::health::v1::Health::Service {
 public:
  static constexpr int kMaxWatches = 64;
  // How late it is seen that a watcher has gone.
  static constexpr absl::Duration kWatchTick = absl::Seconds(1);

  // `services`: full names.
  explicit HealthService(std::vector<std::string> services) : services_(std::move(services)) {}

  // From now on nothing is served, and watches end once they have said so.
  void Close();

  grpc::Status Check(grpc::ServerContext* context,
                     const grpc::health::v1::HealthCheckRequest* request,
                     grpc::health::v1::HealthCheckResponse* response) override;
  grpc::Status Watch(grpc::ServerContext* context,
                     const grpc::health::v1::HealthCheckRequest* request,
                     grpc::ServerWriter<grpc::health::v1::HealthCheckResponse>* writer) override;

 private:
  bool Serves(const std::string& service) const;
  grpc::health::v1::HealthCheckResponse::ServingStatus Status() const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::vector<std::string> services_;
  absl::Mutex mutex_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  int watches_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace lbrd::daemon
