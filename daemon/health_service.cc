#include "daemon/health_service.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace lbrd::daemon {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

bool HealthService::Serves(const std::string& service) const {
  return service.empty() ||
         std::find(services_.begin(), services_.end(), service) != services_.end();
}

HealthCheckResponse::ServingStatus HealthService::Status() const {
  return closed_ ? HealthCheckResponse::NOT_SERVING : HealthCheckResponse::SERVING;
}

void HealthService::Close() {
  absl::MutexLock lock(&mutex_);
  closed_ = true;
}

grpc::Status HealthService::Check(grpc::ServerContext*, const HealthCheckRequest* request,
                                  HealthCheckResponse* response) {
  if (!Serves(request->service())) {
    return grpc::Status(grpc::NOT_FOUND,
                        absl::StrCat("there is no service '", request->service(), "'"));
  }
  absl::MutexLock lock(&mutex_);
  response->set_status(Status());
  return grpc::Status::OK;
}

grpc::Status HealthService::Watch(grpc::ServerContext* context, const HealthCheckRequest* request,
                                  grpc::ServerWriter<HealthCheckResponse>* writer) {
  HealthCheckResponse response;
  {
    absl::MutexLock lock(&mutex_);
    if (watches_ == kMaxWatches) {
      return grpc::Status(grpc::RESOURCE_EXHAUSTED,
                          absl::StrCat("health is watched ", kMaxWatches,
                                       " times already; use Check, or try again later"));
    }
    ++watches_;
    response.set_status(Status());
  }
  const bool known = Serves(request->service());
  if (!known) response.set_status(HealthCheckResponse::SERVICE_UNKNOWN);
  writer->Write(response);
  bool news = false;
  {
    absl::MutexLock lock(&mutex_);
    while (!closed_ && !context->IsCancelled()) {
      mutex_.AwaitWithTimeout(absl::Condition(&closed_), kWatchTick);
    }
    news = known && response.status() != Status();
    response.set_status(Status());
    --watches_;
  }
  if (news) writer->Write(response);
  return grpc::Status::OK;
}

}  // namespace lbrd::daemon
