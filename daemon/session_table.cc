#include "daemon/session_table.h"

#include <iterator>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "daemon/authorization.h"

namespace lbrd::daemon {
namespace {

constexpr size_t kMaxNameBytes = 63;

bool WellFormed(const std::string& name) {
  if (name.empty() || name.size() > kMaxNameBytes) return false;
  for (const char c : name) {
    if (!absl::ascii_islower(static_cast<unsigned char>(c)) &&
        !absl::ascii_isdigit(static_cast<unsigned char>(c)) && c != '-' && c != '_' && c != '.') {
      return false;
    }
  }
  return absl::ascii_isalnum(static_cast<unsigned char>(name[0]));
}

// The sessions of a scope lie together: '0' follows '/', the last letter of a prefix. All: "".
template <typename Map>
auto OfScope(Map& sessions, const std::string& prefix) {
  if (prefix.empty()) return std::make_pair(sessions.begin(), sessions.end());
  std::string beyond = prefix;
  ++beyond.back();
  return std::make_pair(sessions.lower_bound(prefix), sessions.lower_bound(beyond));
}

}  // namespace

void SessionTable::SetMaxSessions(size_t sessions) {
  absl::MutexLock lock(&mutex_);
  max_sessions_ = sessions;
}

absl::Status NoSuchSession(const std::string& name) {
  return absl::NotFoundError(absl::StrCat("no session '", name, "'; see lbrctl list"));
}

std::shared_ptr<Session> SessionTable::MakeRoom(Sessions::iterator from, Sessions::iterator to) {
  auto oldest = sessions_.end();
  for (auto i = from; i != to; ++i) {
    if (i->second == nullptr || !i->second->ended()) continue;
    if (oldest == sessions_.end() || i->second->create_time() < oldest->second->create_time()) {
      oldest = i;
    }
  }
  if (oldest == sessions_.end()) return nullptr;
  return std::move(sessions_.extract(oldest).mapped());
}

absl::StatusOr<std::string> SessionTable::Reserve(const std::string& wanted,
                                                  const SessionScope& scope) {
  std::vector<std::shared_ptr<Session>> forgotten;  // until the lock is given back
  absl::MutexLock lock(&mutex_);
  if (!wanted.empty() && !WellFormed(wanted)) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", wanted, "' is not a session name: 1 to ", kMaxNameBytes,
                     " of a-z, 0-9, '-', '_' and '.', starting with a letter or digit"));
  }
  if (!wanted.empty() && sessions_.count(scope.prefix + wanted) != 0) {
    return absl::AlreadyExistsError(
        absl::StrCat("a session '", wanted, "' exists; stop it first: lbrctl stop ", wanted));
  }
  const auto own = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return OfScope(sessions_, scope.prefix);
  };
  const auto count = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto [from, to] = own();
    return static_cast<size_t>(std::distance(from, to));
  };
  const size_t most = max_sessions_ - (scope.prefix.empty() ? 0 : ReservedOf(max_sessions_));
  // More than one has to go where max-sessions was lowered.
  while (count() >= scope.most || sessions_.size() >= most) {
    if (auto oldest = MakeRoom(own().first, own().second); oldest != nullptr) {
      forgotten.push_back(std::move(oldest));
      continue;
    }
    if (count() >= scope.most) {
      return OverQuota(rule::kQuotaSessions,
                       absl::StrCat("you have ", scope.most,
                                    " sessions, which is the most; stop one: lbrctl list"));
    }
    return absl::ResourceExhaustedError(absl::StrCat(sessions_.size(),
                                                     " sessions are running, and max-sessions is ",
                                                     max_sessions_, "; stop one: lbrctl list"));
  }
  std::string name = scope.prefix + wanted;
  // The numbers of a scope tell nothing of what others have.
  int own_number = 1;
  int& number = scope.prefix.empty() ? next_number_ : own_number;
  while (wanted.empty() && (name == scope.prefix || sessions_.count(name) != 0)) {
    name = absl::StrCat(scope.prefix, "session-", number++);
  }
  sessions_[name] = nullptr;
  return name;
}

void SessionTable::Add(std::shared_ptr<Session> session) {
  absl::MutexLock lock(&mutex_);
  const std::string name = session->name();
  sessions_[name] = std::move(session);
  ++changes_;
}

void SessionTable::Abandon(const std::string& name) {
  absl::MutexLock lock(&mutex_);
  sessions_.erase(name);
}

absl::StatusOr<std::shared_ptr<Session>> SessionTable::Find(const std::string& name) const {
  absl::MutexLock lock(&mutex_);
  const auto found = sessions_.find(name);
  if (found == sessions_.end() || found->second == nullptr) return NoSuchSession(name);
  return found->second;
}

absl::StatusOr<std::shared_ptr<Session>> SessionTable::Remove(const std::string& name) {
  absl::MutexLock lock(&mutex_);
  const auto found = sessions_.find(name);
  if (found == sessions_.end() || found->second == nullptr) return NoSuchSession(name);
  std::shared_ptr<Session> session = std::move(found->second);
  sessions_.erase(found);
  ++changes_;
  return session;
}

std::vector<std::shared_ptr<Session>> SessionTable::List(const std::string& after,
                                                         const std::string& scope) const {
  absl::MutexLock lock(&mutex_);
  std::vector<std::shared_ptr<Session>> sessions;
  const auto end = OfScope(sessions_, scope).second;
  for (auto i = sessions_.upper_bound(scope + after); i != end; ++i) {
    if (i->second != nullptr) sessions.push_back(i->second);
  }
  return sessions;
}

void SessionTable::Changed() {
  absl::MutexLock lock(&mutex_);
  ++changes_;
}

uint64_t SessionTable::AwaitChange(uint64_t seen, absl::Duration timeout) const {
  absl::MutexLock lock(&mutex_);
  const auto changed = [this, seen]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return changes_ > seen || closing_;
  };
  mutex_.AwaitWithTimeout(absl::Condition(&changed), timeout);
  return changes_;
}

bool SessionTable::closing() const {
  absl::MutexLock lock(&mutex_);
  return closing_;
}

void SessionTable::StopAll() {
  {
    absl::MutexLock lock(&mutex_);
    closing_ = true;
  }
  for (const std::shared_ptr<Session>& session : List("")) session->Stop();
}

}  // namespace lbrd::daemon
