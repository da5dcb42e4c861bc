// lbrd.v1.History: questions in, answers from the history. See proto/lbrd/v1/history.proto.
//
// Thread rules: called from gRPC's threads.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "daemon/authenticator.h"
#include "daemon/history.h"
#include "lbrd/v1/history.grpc.pb.h"

namespace lbrd::daemon {

// A request as a query, or what is wrong with it.
absl::StatusOr<HistoryQuery> ParseHistoryQuery(const v1::QueryProfileRequest& request);
void EncodeHistoryAnswer(const HistoryAnswer& answer, v1::QueryProfileResponse* out);
void DescribeHistory(const History& history, v1::HistoryStatus* out);

class HistoryService final : public v1::History::Service {
 public:
  // Borrows both. `history`: nullptr: there is none, for the reason given. `authenticator`: who is
  // not an admin is told of own processes only.
  HistoryService(History* history, std::string why_none, Authenticator* authenticator)
      : history_(history), why_none_(std::move(why_none)), authenticator_(*authenticator) {}

  grpc::Status QueryProfile(grpc::ServerContext* context, const v1::QueryProfileRequest* request,
                            v1::QueryProfileResponse* response) override;

 private:
  History* const history_;
  const std::string why_none_;
  Authenticator& authenticator_;
};

}  // namespace lbrd::daemon
