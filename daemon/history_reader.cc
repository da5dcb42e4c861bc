#include "daemon/history_reader.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "daemon/history_definitions.h"
#include "daemon/history_gaps.h"
#include "daemon/sqlite.h"

namespace lbrd::daemon {
namespace {

// SQLite's own instructions between two looks at the clock.
constexpr int kStepsPerCheck = 10'000;

absl::string_view Basename(absl::string_view path) { return path.substr(path.rfind('/') + 1); }

std::string FunctionLabel(const FrameInfo& frame) {
  if (!frame.symbol.empty()) return frame.symbol;
  if (frame.binary == nullptr) return "[unknown]";
  return absl::StrCat("[unknown in ", Basename(frame.binary->path), "]");
}

class Query {
 public:
  Query(Database* database, HistoryDefinitions* definitions, const HistoryQuery& query)
      : database_(*database), definitions_(*definitions), query_(query) {
    for (const HistoryKey key : query.by) {
      const bool of_stack = key == HistoryKey::kBinary || key == HistoryKey::kBuildId ||
                            key == HistoryKey::kFunction || key == HistoryKey::kStack;
      const bool of_bucket =
          key == HistoryKey::kSession || key == HistoryKey::kEvent || key == HistoryKey::kTime;
      by_stack_ = by_stack_ || of_stack;
      by_thread_ = by_thread_ || !(of_stack || of_bucket);
      by_time_ = by_time_ || key == HistoryKey::kTime;
      by_session_ = by_session_ || key == HistoryKey::kSession;
    }
    if (query.by.empty()) by_stack_ = by_thread_ = true;
  }

  absl::StatusOr<HistoryAnswer> Run() {
    absl::Status done = ReadBuckets();
    if (done.ok()) done = query_.by.empty() ? FillEntries() : FillRows();
    if (done.ok()) done = FillGaps();
    if (!done.ok()) return done;
    if (definitions_.missing() != 0) {
      answer_.notes.push_back(
          absl::StrCat(definitions_.missing(), " definitions are missing: the history is damaged"));
    }
    return std::move(answer_);
  }

 private:
  // What the buckets of a slot have in common, as far as it matters to the query.
  struct Slot {
    uint32_t event = 0;
    std::string session;
    int64_t time_ns = 0;
    auto operator<=>(const Slot&) const = default;
    template <typename H>
    friend H AbslHashValue(H hash, const Slot& slot) {
      return H::combine(std::move(hash), slot.event, slot.session, slot.time_ns);
    }
  };
  using Group = std::tuple<uint32_t, int64_t, int64_t>;  // slot, thread, stack
  struct Sum {
    uint64_t samples = 0;
    uint64_t weight = 0;
  };

  absl::Status ReadBuckets();
  absl::Status ReadCounts(int64_t bucket, uint32_t slot, Statement* counts);
  absl::StatusOr<bool> Matches(int64_t thread, int64_t stack);
  absl::StatusOr<bool> ThreadMatches(int64_t id);
  absl::StatusOr<bool> StackMatches(int64_t id);
  absl::StatusOr<std::vector<std::string>> KeysOf(const Group& group);
  absl::Status FillEntries();
  absl::Status FillRows();
  absl::Status FillGaps();
  template <typename Item>
  void Limit(std::vector<Item>* items);

  // An index of the answer's events.
  uint32_t EventOf(absl::string_view name, absl::string_view unit) {
    for (size_t i = 0; i < answer_.events.size(); ++i) {
      if (answer_.events[i].name == name && answer_.events[i].unit == unit) {
        return static_cast<uint32_t>(i);
      }
    }
    answer_.events.push_back({std::string(name), std::string(unit)});
    return static_cast<uint32_t>(answer_.events.size() - 1);
  }
  // Whether the user who asks may know of a session.
  bool MayName(int64_t owner) const {
    return !query_.visible_to.has_value() || owner == *query_.visible_to;
  }

  Database& database_;
  HistoryDefinitions& definitions_;
  const HistoryQuery& query_;
  bool by_stack_ = false;
  bool by_thread_ = false;
  bool by_time_ = false;
  bool by_session_ = false;

  HistoryAnswer answer_;
  absl::flat_hash_map<Slot, uint32_t> slot_numbers_;
  std::vector<Slot> slots_;
  absl::flat_hash_map<Group, Sum> groups_;
  absl::flat_hash_map<int64_t, bool> thread_matches_;
  absl::flat_hash_map<int64_t, bool> stack_matches_;
  std::vector<std::pair<int64_t, int64_t>> covered_;
};

absl::Status Query::ReadBuckets() {
  absl::StatusOr<Statement> buckets = database_.Prepare(
      "SELECT id, begin_ns, end_ns, session, session_owner, event, unit, dropped FROM buckets "
      "WHERE end_ns > ? AND begin_ns < ? ORDER BY id");
  if (!buckets.ok()) return buckets.status();
  absl::StatusOr<Statement> counts =
      database_.Prepare("SELECT thread, stack, samples, weight FROM counts WHERE bucket = ?");
  if (!counts.ok()) return counts.status();
  buckets->Bind(query_.since_ns, query_.until_ns);
  while (true) {
    const absl::StatusOr<bool> row = buckets->Step();
    if (!row.ok()) return row.status();
    if (!*row) return absl::OkStatus();
    const int64_t begin = buckets->Int(1);
    const int64_t end = buckets->Int(2);
    const bool named = MayName(buckets->Int(4));
    if (!query_.session.empty() && (!named || buckets->Text(3) != query_.session)) continue;
    covered_.emplace_back(begin, end);
    answer_.begin_ns = answer_.end_ns == 0 ? begin : std::min(answer_.begin_ns, begin);
    answer_.end_ns = std::max(answer_.end_ns, end);
    answer_.resolution_ns = std::max(answer_.resolution_ns, end - begin);
    if (named) answer_.samples_dropped += static_cast<uint64_t>(buckets->Int(7));
    if (!query_.event.empty() && buckets->Text(5) != query_.event) continue;
    Slot slot{.event = EventOf(buckets->Text(5), buckets->Text(6))};
    if (by_session_) slot.session = named ? std::string(buckets->Text(3)) : "(another user's)";
    if (by_time_) slot.time_ns = begin;
    const auto [number, fresh] =
        slot_numbers_.try_emplace(slot, static_cast<uint32_t>(slots_.size()));
    if (fresh) slots_.push_back(std::move(slot));
    if (absl::Status read = ReadCounts(buckets->Int(0), number->second, &*counts); !read.ok()) {
      return read;
    }
  }
}

absl::Status Query::ReadCounts(int64_t bucket, uint32_t slot, Statement* counts) {
  counts->Bind(bucket);
  while (true) {
    const absl::StatusOr<bool> row = counts->Step();
    if (!row.ok()) return row.status();
    if (!*row) break;
    const int64_t thread = counts->Int(0);
    const int64_t stack = counts->Int(1);
    const absl::StatusOr<bool> matches = Matches(thread, stack);
    if (!matches.ok()) return matches.status();
    if (!*matches) continue;
    Sum& sum = groups_[Group(slot, by_thread_ ? thread : 0, by_stack_ ? stack : 0)];
    const auto samples = static_cast<uint64_t>(counts->Int(2));
    sum.samples += samples;
    sum.weight += static_cast<uint64_t>(counts->Int(3));
    answer_.samples += samples;
    if (groups_.size() > kMaxHistoryGroups) {
      return absl::ResourceExhaustedError(
          absl::StrCat("more than ", kMaxHistoryGroups,
                       " different stacks and threads: ask for a shorter time, or a part of the "
                       "machine, or group by less"));
    }
  }
  counts->Reset();
  return absl::OkStatus();
}

absl::StatusOr<bool> Query::Matches(int64_t thread, int64_t stack) {
  absl::StatusOr<bool> matches = ThreadMatches(thread);
  if (!matches.ok() || !*matches || query_.build_id.empty()) return matches;
  return StackMatches(stack);
}

absl::StatusOr<bool> Query::ThreadMatches(int64_t id) {
  if (const auto found = thread_matches_.find(id); found != thread_matches_.end()) {
    return found->second;
  }
  const absl::StatusOr<const HistoryThread*> read = definitions_.Thread(id);
  if (!read.ok()) return read.status();
  const HistoryThread& of = **read;
  const ThreadInfo& thread = *of.thread;
  const bool matches =
      (!query_.visible_to.has_value() || of.owner == query_.visible_to) &&
      (!query_.pid.has_value() || thread.pid == *query_.pid) &&
      (!query_.tid.has_value() || thread.tid == *query_.tid) &&
      (!query_.uid.has_value() || of.uid == query_.uid) &&
      (query_.comm.empty() || thread.comm == query_.comm || thread.process_comm == query_.comm) &&
      (query_.exe.empty() || of.exe == query_.exe || Basename(of.exe) == query_.exe) &&
      (query_.cgroup.empty() || query_.cgroup == "/" || of.cgroup == query_.cgroup ||
       absl::StartsWith(of.cgroup, absl::StrCat(query_.cgroup, "/")));
  thread_matches_.emplace(id, matches);
  return matches;
}

absl::StatusOr<bool> Query::StackMatches(int64_t id) {
  if (const auto found = stack_matches_.find(id); found != stack_matches_.end()) {
    return found->second;
  }
  const absl::StatusOr<std::shared_ptr<const StackInfo>> stack = definitions_.Stack(id);
  if (!stack.ok()) return stack.status();
  const bool matches =
      std::any_of((*stack)->frames.begin(), (*stack)->frames.end(),
                  [this](const std::shared_ptr<const FrameInfo>& frame) {
                    return frame->binary != nullptr &&
                           absl::StartsWith(frame->binary->build_id, query_.build_id);
                  });
  stack_matches_.emplace(id, matches);
  return matches;
}

absl::StatusOr<std::vector<std::string>> Query::KeysOf(const Group& group) {
  const auto& [slot_number, thread_id, stack_id] = group;
  const Slot& slot = slots_[slot_number];
  const HistoryThread* thread = nullptr;
  if (by_thread_) {
    const absl::StatusOr<const HistoryThread*> read = definitions_.Thread(thread_id);
    if (!read.ok()) return read.status();
    thread = *read;
  }
  std::shared_ptr<const StackInfo> stack;
  if (by_stack_) {
    absl::StatusOr<std::shared_ptr<const StackInfo>> read = definitions_.Stack(stack_id);
    if (!read.ok()) return read.status();
    stack = *std::move(read);
  }
  const FrameInfo* leaf =
      stack == nullptr || stack->frames.empty() ? nullptr : stack->frames.front().get();
  const BinaryInfo* binary = leaf == nullptr ? nullptr : leaf->binary.get();
  std::vector<std::string> keys;
  for (const HistoryKey key : query_.by) {
    switch (key) {
      case HistoryKey::kSession:
        keys.push_back(slot.session);
        break;
      case HistoryKey::kEvent:
        keys.push_back(answer_.events[slot.event].name);
        break;
      case HistoryKey::kTime:
        keys.push_back(absl::StrCat(slot.time_ns / 1'000'000'000));
        break;
      case HistoryKey::kPid:
        keys.push_back(absl::StrCat(thread->thread->pid));
        break;
      case HistoryKey::kTid:
        keys.push_back(absl::StrCat(thread->thread->tid));
        break;
      case HistoryKey::kComm:
        keys.push_back(thread->thread->comm);
        break;
      case HistoryKey::kProcess:
        keys.push_back(thread->thread->process_comm.empty() ? thread->thread->comm
                                                            : thread->thread->process_comm);
        break;
      case HistoryKey::kCgroup:
        keys.push_back(thread->cgroup);
        break;
      case HistoryKey::kUid:
        keys.push_back(thread->uid.has_value() ? absl::StrCat(*thread->uid) : "");
        break;
      case HistoryKey::kExe:
        keys.push_back(thread->exe);
        break;
      case HistoryKey::kBinary:
        keys.push_back(binary == nullptr ? "" : binary->path);
        break;
      case HistoryKey::kBuildId:
        keys.push_back(binary == nullptr ? "" : binary->build_id);
        break;
      case HistoryKey::kFunction:
        keys.push_back(leaf == nullptr ? "[no stack]" : FunctionLabel(*leaf));
        break;
      case HistoryKey::kStack: {
        std::vector<std::string> labels;
        for (auto frame = stack->frames.rbegin(); frame != stack->frames.rend(); ++frame) {
          labels.push_back(FunctionLabel(**frame));
        }
        keys.push_back(absl::StrJoin(labels, ";"));
        break;
      }
    }
  }
  return keys;
}

template <typename Item>
void Query::Limit(std::vector<Item>* items) {
  const size_t limit =
      query_.limit == 0 ? kMaxHistoryRows : std::min(query_.limit, kMaxHistoryRows);
  for (size_t i = limit; i < items->size(); ++i) {
    ++answer_.rows_not_shown;
    answer_.samples_not_shown += (*items)[i].samples;
  }
  if (items->size() > limit) items->resize(limit);
}

absl::Status Query::FillEntries() {
  for (const auto& [group, sum] : groups_) {
    const auto& [slot, thread_id, stack_id] = group;
    const absl::StatusOr<const HistoryThread*> thread = definitions_.Thread(thread_id);
    if (!thread.ok()) return thread.status();
    absl::StatusOr<std::shared_ptr<const StackInfo>> stack = definitions_.Stack(stack_id);
    if (!stack.ok()) return stack.status();
    answer_.entries.push_back({.stack = *std::move(stack),
                               .thread = (*thread)->thread,
                               .event = slots_[slot].event,
                               .samples = sum.samples,
                               .weight = sum.weight});
  }
  std::sort(answer_.entries.begin(), answer_.entries.end(),
            [](const HistoryAnswer::Entry& a, const HistoryAnswer::Entry& b) {
              return std::tie(b.weight, a.event, a.stack->id, a.thread->id) <
                     std::tie(a.weight, b.event, b.stack->id, b.thread->id);
            });
  Limit(&answer_.entries);
  return absl::OkStatus();
}

absl::Status Query::FillRows() {
  absl::flat_hash_map<std::pair<uint32_t, std::vector<std::string>>, Sum> rows;
  for (const auto& [group, sum] : groups_) {
    absl::StatusOr<std::vector<std::string>> keys = KeysOf(group);
    if (!keys.ok()) return keys.status();
    Sum& row = rows[{slots_[std::get<0>(group)].event, *std::move(keys)}];
    row.samples += sum.samples;
    row.weight += sum.weight;
  }
  for (const auto& [key, sum] : rows) {
    answer_.rows.push_back(
        {.keys = key.second, .event = key.first, .samples = sum.samples, .weight = sum.weight});
  }
  std::sort(answer_.rows.begin(), answer_.rows.end(),
            [](const HistoryAnswer::Row& a, const HistoryAnswer::Row& b) {
              return std::tie(a.event, b.weight, a.keys) < std::tie(b.event, a.weight, b.keys);
            });
  Limit(&answer_.rows);
  return absl::OkStatus();
}

absl::Status Query::FillGaps() {
  absl::StatusOr<int64_t> oldest = database_.Value("SELECT min(begin_ns) FROM buckets");
  if (!oldest.ok()) return oldest.status();
  answer_.oldest_ns = *oldest;
  std::vector<HistoryRun> runs;
  absl::StatusOr<Statement> read =
      database_.Prepare("SELECT begin_ns, last_ns, clean FROM runs ORDER BY begin_ns");
  if (!read.ok()) return read.status();
  read->Bind();
  absl::StatusOr<bool> row = read->Step();
  for (; row.ok() && *row; row = read->Step()) {
    runs.push_back({.begin_ns = read->Int(0), .last_ns = read->Int(1), .clean = read->Int(2) != 0});
  }
  if (!row.ok()) return row.status();
  std::vector<HistoryGap> losses;
  read = database_.Prepare(
      "SELECT begin_ns, end_ns, samples, why, session FROM losses WHERE end_ns > ? AND begin_ns < "
      "?");
  if (!read.ok()) return read.status();
  read->Bind(query_.since_ns, query_.until_ns);
  for (row = read->Step(); row.ok() && *row; row = read->Step()) {
    if (!query_.session.empty() && read->Text(4) != query_.session) continue;
    losses.push_back(
        {.begin_ns = read->Int(0),
         .end_ns = read->Int(1),
         .samples = query_.visible_to.has_value() ? 0 : static_cast<uint64_t>(read->Int(2)),
         .why = std::string(read->Text(3))});
    answer_.samples_dropped += losses.back().samples;
  }
  if (!row.ok()) return row.status();
  const int64_t now_ns = absl::GetCurrentTimeNanos();
  const int64_t until_ns = std::min(query_.until_ns, now_ns);
  answer_.gaps = FindHistoryGaps(query_.since_ns, until_ns, std::move(covered_), runs, losses);
  // What was before the first bucket is one thing, however many runs there were.
  if (answer_.oldest_ns != 0 && !answer_.gaps.empty() &&
      answer_.gaps.front().begin_ns < answer_.oldest_ns &&
      answer_.gaps.front().end_ns >= answer_.oldest_ns) {
    answer_.gaps.front().why = "before the history begins";
  }
  answer_.gap_count = answer_.gaps.size();
  if (answer_.gaps.size() > kMaxHistoryGaps) answer_.gaps.resize(kMaxHistoryGaps);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<HistoryAnswer> QueryHistory(const std::string& path, const HistoryQuery& query) {
  absl::StatusOr<Database> database =
      Database::Open(path, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX);
  if (!database.ok()) return database.status();
  sqlite3_busy_timeout(database->get(), 1000);
  absl::Time deadline = absl::Now() + absl::Seconds(kMaxHistoryQuerySeconds);
  sqlite3_progress_handler(
      database->get(), kStepsPerCheck,
      [](void* until) { return absl::Now() > *static_cast<absl::Time*>(until) ? 1 : 0; },
      &deadline);
  if (absl::Status begun = database->Exec("PRAGMA cache_size=-4096; BEGIN"); !begun.ok()) {
    return begun;
  }
  absl::StatusOr<HistoryDefinitions> definitions =
      HistoryDefinitions::Open(&*database, query.visible_to.has_value());
  if (!definitions.ok()) return definitions.status();
  absl::StatusOr<HistoryAnswer> answer = Query(&*database, &*definitions, query).Run();
  if (absl::IsDeadlineExceeded(answer.status())) {
    return absl::DeadlineExceededError(absl::StrCat(
        "the query took more than ", kMaxHistoryQuerySeconds, " s: ask for a shorter time"));
  }
  return answer;
}

}  // namespace lbrd::daemon
