#include "daemon/history_service.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/proto_encoder.h"

namespace lbrd::daemon {
namespace {

constexpr int64_t kPerSecond = 1'000'000'000;
// Year 2262, where nanoseconds in 64 bits end.
constexpr int64_t kMaxSeconds = INT64_MAX / kPerSecond - 1;
// More keys than there are different ones.
constexpr int kMaxKeys = 16;
// Of a question, in ordinary requests.
constexpr double kQueryCost = 10;

absl::StatusOr<int64_t> ToNs(const google::protobuf::Timestamp& time, absl::string_view name) {
  if (time.seconds() < 0 || time.seconds() > kMaxSeconds || time.nanos() < 0 ||
      time.nanos() >= kPerSecond) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": not a time between 1970 and 2262"));
  }
  return time.seconds() * kPerSecond + time.nanos();
}

void SetTime(int64_t ns, google::protobuf::Timestamp* out) {
  out->set_seconds(ns / kPerSecond);
  out->set_nanos(static_cast<int32_t>(ns % kPerSecond));
}

void SetDuration(int64_t ns, google::protobuf::Duration* out) {
  out->set_seconds(ns / kPerSecond);
  out->set_nanos(static_cast<int32_t>(ns % kPerSecond));
}

absl::StatusOr<HistoryKey> KeyOf(int key) {
  switch (key) {
    case v1::HISTORY_KEY_SESSION:
      return HistoryKey::kSession;
    case v1::HISTORY_KEY_EVENT:
      return HistoryKey::kEvent;
    case v1::HISTORY_KEY_TIME:
      return HistoryKey::kTime;
    case v1::HISTORY_KEY_PID:
      return HistoryKey::kPid;
    case v1::HISTORY_KEY_TID:
      return HistoryKey::kTid;
    case v1::HISTORY_KEY_COMM:
      return HistoryKey::kComm;
    case v1::HISTORY_KEY_PROCESS:
      return HistoryKey::kProcess;
    case v1::HISTORY_KEY_CGROUP:
      return HistoryKey::kCgroup;
    case v1::HISTORY_KEY_UID:
      return HistoryKey::kUid;
    case v1::HISTORY_KEY_EXE:
      return HistoryKey::kExe;
    case v1::HISTORY_KEY_BINARY:
      return HistoryKey::kBinary;
    case v1::HISTORY_KEY_BUILD_ID:
      return HistoryKey::kBuildId;
    case v1::HISTORY_KEY_FUNCTION:
      return HistoryKey::kFunction;
    case v1::HISTORY_KEY_STACK:
      return HistoryKey::kStack;
    default:
      return absl::InvalidArgumentError(absl::StrCat("group_by: ", key, " is not a key"));
  }
}

}  // namespace

absl::StatusOr<HistoryQuery> ParseHistoryQuery(const v1::QueryProfileRequest& request) {
  HistoryQuery query;
  if (request.has_since()) {
    const absl::StatusOr<int64_t> since = ToNs(request.since(), "since");
    if (!since.ok()) return since.status();
    query.since_ns = *since;
  }
  if (request.has_until()) {
    const absl::StatusOr<int64_t> until = ToNs(request.until(), "until");
    if (!until.ok()) return until.status();
    query.until_ns = *until;
  }
  if (query.until_ns <= query.since_ns) {
    return absl::InvalidArgumentError("until: must be later than since");
  }
  query.session = request.session();
  query.event = request.event();
  if (request.has_pid()) query.pid = request.pid();
  if (request.has_tid()) query.tid = request.tid();
  query.comm = request.comm();
  query.cgroup = request.cgroup();
  if (request.has_uid()) query.uid = request.uid();
  query.exe = request.exe();
  query.build_id = request.build_id();
  if (request.group_by_size() > kMaxKeys) {
    return absl::InvalidArgumentError(absl::StrCat("group_by: at most ", kMaxKeys, " keys"));
  }
  for (const int key : request.group_by()) {
    const absl::StatusOr<HistoryKey> parsed = KeyOf(key);
    if (!parsed.ok()) return parsed.status();
    query.by.push_back(*parsed);
  }
  query.limit = request.limit();
  return query;
}

void EncodeHistoryAnswer(const HistoryAnswer& answer, v1::QueryProfileResponse* out) {
  for (const HistoryAnswer::Event& event : answer.events) {
    v1::HistoryEvent* encoded = out->add_events();
    encoded->set_name(ProtoText(event.name));
    encoded->set_unit(ProtoText(event.unit));
  }
  for (const HistoryAnswer::Row& row : answer.rows) {
    v1::HistoryRow* encoded = out->add_rows();
    for (const std::string& key : row.keys) encoded->add_keys(ProtoText(key));
    encoded->set_event(row.event);
    encoded->set_samples(row.samples);
    encoded->set_weight(row.weight);
  }
  DefinitionEncoder definitions;
  for (const HistoryAnswer::Entry& entry : answer.entries) {
    definitions.AddStack(*entry.stack, out->mutable_profile()->mutable_definitions());
    definitions.AddThread(*entry.thread, out->mutable_profile()->mutable_definitions());
    v1::ProfileEntry* encoded = out->mutable_profile()->add_entries();
    encoded->set_stack_id(entry.stack->id);
    encoded->set_thread_id(entry.thread->id);
    encoded->set_event(entry.event);
    encoded->set_samples(entry.samples);
    encoded->set_weight(entry.weight);
  }
  out->set_samples(answer.samples);
  out->set_rows_not_shown(answer.rows_not_shown);
  out->set_samples_not_shown(answer.samples_not_shown);
  out->set_samples_dropped(answer.samples_dropped);
  if (answer.end_ns != 0) {
    SetTime(answer.begin_ns, out->mutable_begin());
    SetTime(answer.end_ns, out->mutable_end());
  }
  if (answer.oldest_ns != 0) SetTime(answer.oldest_ns, out->mutable_oldest());
  SetDuration(answer.resolution_ns, out->mutable_resolution());
  out->set_gap_count(answer.gap_count);
  for (const HistoryGap& gap : answer.gaps) {
    v1::HistoryGap* encoded = out->add_gaps();
    SetTime(gap.begin_ns, encoded->mutable_begin());
    SetTime(gap.end_ns, encoded->mutable_end());
    encoded->set_samples(gap.samples);
    encoded->set_why(ProtoText(gap.why));
  }
  for (const std::string& note : answer.notes) out->add_notes(ProtoText(note));
}

void DescribeHistory(const History& history, v1::HistoryStatus* out) {
  const HistoryStats stats = history.stats();
  out->set_path(history.options().path);
  out->set_bytes(stats.bytes);
  out->set_max_bytes(history.options().max_bytes);
  SetDuration(absl::ToInt64Nanoseconds(history.options().max_age), out->mutable_max_age());
  out->set_buckets_stored(stats.buckets_stored);
  out->set_last_bucket(stats.last_bucket);
  out->set_buckets_evicted(stats.buckets_evicted);
  out->set_buckets_dropped(stats.buckets_dropped);
  out->set_samples_dropped(stats.samples_dropped);
  out->set_queue_bytes(stats.queue_bytes);
  out->set_failures(stats.failures);
  SetDuration(static_cast<int64_t>(stats.cpu_ns), out->mutable_cpu_time());
  out->set_error(ProtoText(stats.error));
  out->set_notice(ProtoText(stats.notice));
}

grpc::Status HistoryService::QueryProfile(grpc::ServerContext* context,
                                          const v1::QueryProfileRequest* request,
                                          v1::QueryProfileResponse* response) {
  // absl's and gRPC's codes are the same numbers.
  const auto refused = [](const absl::Status& status) {
    return grpc::Status(static_cast<grpc::StatusCode>(status.code()),
                        std::string(status.message()));
  };
  const absl::StatusOr<Identity> who = authenticator_.Identify(*context, kQueryCost);
  if (!who.ok()) return refused(who.status());
  if (history_ == nullptr) return grpc::Status(grpc::FAILED_PRECONDITION, why_none_);
  absl::StatusOr<HistoryQuery> query = ParseHistoryQuery(*request);
  if (!query.ok()) return refused(query.status());
  if (!who->admin()) query->visible_to = who->uid;
  const absl::StatusOr<HistoryAnswer> answer = history_->Query(*query);
  if (!answer.ok()) return refused(answer.status());
  EncodeHistoryAnswer(*answer, response);
  return grpc::Status::OK;
}

}  // namespace lbrd::daemon
