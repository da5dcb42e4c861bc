#include "daemon/audit.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "daemon/log.h"
#include "daemon/session_events.h"

namespace lbrd::daemon {
namespace {

// Of text that others chose.
constexpr size_t kMaxTextBytes = 256;

std::string Quoted(absl::string_view text) {
  return absl::StrCat("\"", absl::CEscape(text.substr(0, kMaxTextBytes)),
                      text.size() > kMaxTextBytes ? "…\"" : "\"");
}

std::string RateText(const v1::SessionSpec& spec) {
  if (spec.period() != 0) return absl::StrCat("period ", spec.period());
  return spec.frequency_hz() == 0 ? "default" : absl::StrCat(spec.frequency_hz(), " Hz");
}

// " event=… rate=…", once for each.
std::string EventsText(const v1::SessionSpec& spec) {
  std::string text;
  // What has more is refused, and not worth a longer line.
  if (!CheckEvents(spec).ok()) {
    return absl::StrCat(" events=", spec.more_events_size() + 1);
  }
  for (const v1::SessionSpec& one : SpecPerEvent(spec)) {
    absl::StrAppend(&text, " event=", Quoted(one.event().empty() ? "default" : one.event()),
                    " rate=", Quoted(RateText(one)));
  }
  return text;
}

}  // namespace

std::string TargetText(const v1::Target& target) {
  switch (target.kind_case()) {
    case v1::Target::kAllCpus:
      return "all CPUs";
    case v1::Target::kProcess:
      return absl::StrCat("process ", target.process().pid());
    case v1::Target::kThread:
      return absl::StrCat("thread ", target.thread().tid());
    case v1::Target::kRecording:
      return absl::StrCat("recording ", target.recording().path());
    case v1::Target::kCpuList:
      return absl::StrCat("CPUs ", target.cpu_list().cpus());
    case v1::Target::kCgroup:
      return absl::StrCat("cgroup ", target.cgroup().path());
    case v1::Target::kUser:
      return absl::StrCat("user ", target.user().uid());
    case v1::Target::KIND_NOT_SET:
      break;
  }
  return "nothing";
}

void Audit::Line(const Identity& who, absl::string_view what, const absl::Status& result) {
  if (!on_) return;
  const std::string caller = who.certificate.empty()
                                 ? absl::StrCat(" pid=", who.pid, " comm=", Quoted(who.comm))
                                 : absl::StrCat(" certificate=", Quoted(who.certificate));
  std::string line = absl::StrCat("audit: uid=", who.uid, caller, " ", what);
  if (result.ok()) {
    Log(LogLevel::kInfo, absl::StrCat(line, " result=ok"));
    return;
  }
  const absl::string_view rule = RuleOf(result);
  if (rule.empty()) {
    absl::StrAppend(&line, " result=failed why=", Quoted(result.message()));
  } else {
    absl::StrAppend(&line, " result=denied rule=", rule);
  }
  int left_out = 0;
  {
    absl::MutexLock lock(&mutex_);
    const absl::Time now = absl::Now();
    if (now - second_ >= absl::Seconds(1)) {
      left_out = std::max(0, denials_ - kDenialsPerSecond);
      denials_ = 0;
      second_ = now;
    }
    if (++denials_ > kDenialsPerSecond) return;
  }
  if (left_out != 0) {
    Log(LogLevel::kWarning, absl::StrCat("audit: ", left_out, " more refusals are not shown"));
  }
  Log(LogLevel::kWarning, line);
}

void Audit::Start(const Identity& who, absl::string_view session, const v1::SessionSpec& spec,
                  const absl::Status& result) {
  Line(who,
       absl::StrCat("action=start session=", Quoted(session),
                    " target=", Quoted(TargetText(spec.target())), EventsText(spec)),
       result);
}

void Audit::Stop(const Identity& who, absl::string_view session, absl::string_view action) {
  Line(who, absl::StrCat("action=", action, " session=", Quoted(session)), absl::OkStatus());
}

void Audit::Ended(const Identity& who, absl::string_view session, const absl::Status& result) {
  Line(who, absl::StrCat("action=end session=", Quoted(session)), result);
}

void Audit::Other(const Identity& who, absl::string_view action, absl::string_view what,
                  const absl::Status& result) {
  Line(who, absl::StrCat("action=", action, " what=", Quoted(what)), result);
}

}  // namespace lbrd::daemon
