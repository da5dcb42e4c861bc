#include "daemon/session_journal.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <type_traits>
#include <utility>

namespace lbrd::daemon {
namespace {

constexpr size_t kLifeBytes = 128;
constexpr size_t kFiguresBytes = 256;  // of one copy
constexpr size_t kStreamBytes = 128;
constexpr size_t kSessionsAt = 4096;
constexpr size_t kFiguresAt =
    kSessionsAt + SessionJournal::kSessions * 2 * SessionJournal::kRecordBytes;
constexpr size_t kStreamsAt = kFiguresAt + SessionJournal::kSessions * 2 * kFiguresBytes;
static_assert(kStreamsAt + SessionJournal::kStreams * 2 * kStreamBytes <= kJournalBytes);
static_assert(sizeof(SessionFigures) + JournalSlot::kHeaderBytes <= kFiguresBytes);
static_assert(sizeof(StreamPoint) + JournalSlot::kHeaderBytes <= kStreamBytes);

template <typename T>
absl::string_view BytesOf(const T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

template <typename T>
bool FromBytes(absl::string_view bytes, T* value) {
  if (bytes.size() != sizeof(*value)) return false;
  std::memcpy(value, bytes.data(), sizeof(*value));
  return true;
}

bool IsStreamName(const char (&name)[StreamPoint::kNameBytes]) {
  return std::all_of(std::begin(name), std::end(name),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

// The first place that is free, and takes it; nullopt: none is.
std::optional<size_t> TakePlace(std::vector<bool>* taken) {
  const auto free = std::find(taken->begin(), taken->end(), false);
  if (free == taken->end()) return std::nullopt;
  *free = true;
  return static_cast<size_t>(free - taken->begin());
}

}  // namespace

SessionJournal::SessionJournal(std::span<std::byte> memory)
    : memory_(memory.first(kJournalBytes)), sessions_taken_(kSessions), streams_taken_(kStreams) {}

std::span<std::byte> SessionJournal::RecordMemory(size_t place) const {
  return memory_.subspan(kSessionsAt + place * 2 * kRecordBytes, 2 * kRecordBytes);
}
std::span<std::byte> SessionJournal::FiguresMemory(size_t place) const {
  return memory_.subspan(kFiguresAt + place * 2 * kFiguresBytes, 2 * kFiguresBytes);
}
std::span<std::byte> SessionJournal::StreamMemory(size_t place) const {
  return memory_.subspan(kStreamsAt + place * 2 * kStreamBytes, 2 * kStreamBytes);
}

std::vector<SessionJournal::LeftSession> SessionJournal::LeftSessions() {
  std::vector<LeftSession> left;
  for (size_t place = 0; place < kSessions; ++place) {
    JournalSlot slot(RecordMemory(place));
    const std::string text = slot.Read();
    if (text.empty()) continue;
    LeftSession one{.place = place};
    if (!one.record.ParseFromString(text) || one.record.id() == 0) {
      slot.Write("");
      continue;
    }
    FromBytes(JournalSlot(FiguresMemory(place)).Read(), &one.figures);
    left.push_back(std::move(one));
  }
  return left;
}

std::vector<SessionJournal::LeftStream> SessionJournal::LeftStreams() {
  std::vector<LeftStream> left;
  for (size_t place = 0; place < kStreams; ++place) {
    JournalSlot slot(StreamMemory(place));
    const std::string text = slot.Read();
    if (text.empty()) continue;
    LeftStream one{.place = place};
    if (FromBytes(text, &one.point) && IsStreamName(one.point.name)) {
      left.push_back(one);
    } else {
      slot.Write("");
    }
  }
  return left;
}

std::shared_ptr<SessionJournal::SessionEntry> SessionJournal::TakeSession(const LeftSession& left) {
  {
    absl::MutexLock lock(&mutex_);
    sessions_taken_[left.place] = true;
  }
  return std::make_shared<SessionEntry>(this, left.place, left.record);
}

std::unique_ptr<SessionJournal::StreamEntry> SessionJournal::TakeStream(const LeftStream& left) {
  {
    absl::MutexLock lock(&mutex_);
    streams_taken_[left.place] = true;
  }
  return std::make_unique<StreamEntry>(this, left.place);
}

std::shared_ptr<SessionJournal::SessionEntry> SessionJournal::AddSession() {
  std::optional<size_t> place;
  {
    absl::MutexLock lock(&mutex_);
    place = TakePlace(&sessions_taken_);
  }
  if (!place.has_value()) return nullptr;
  auto entry = std::make_shared<SessionEntry>(this, *place, journal::SessionRecord());
  // Of the session that had this place before.
  entry->WriteFigures([] { return SessionFigures(); });
  return entry;
}

std::unique_ptr<SessionJournal::StreamEntry> SessionJournal::AddStream() {
  absl::MutexLock lock(&mutex_);
  const std::optional<size_t> place = TakePlace(&streams_taken_);
  return place.has_value() ? std::make_unique<StreamEntry>(this, *place) : nullptr;
}

uint64_t SessionJournal::BeginLife(uint64_t now_ns, bool crashed) {
  JournalSlot slot(memory_.first(kLifeBytes));
  Life life;
  FromBytes(slot.Read(), &life);
  const bool short_life = now_ns - std::min(now_ns, life.begin_ns) < kShortLifeNs;
  life = {.begin_ns = now_ns, .crashes = crashed && short_life ? life.crashes + 1 : 0};
  slot.Write(BytesOf(life));
  return life.crashes;
}

void SessionJournal::FreeSession(size_t place) {
  absl::MutexLock lock(&mutex_);
  sessions_taken_[place] = false;
}

void SessionJournal::FreeStream(size_t place) {
  absl::MutexLock lock(&mutex_);
  streams_taken_[place] = false;
}

SessionJournal::SessionEntry::SessionEntry(SessionJournal* journal, size_t place,
                                           journal::SessionRecord record)
    : journal_(*journal),
      place_(place),
      record_(std::move(record)),
      record_slot_(journal->RecordMemory(place)),
      figures_slot_(journal->FiguresMemory(place)) {}

SessionJournal::SessionEntry::~SessionEntry() {
  Erase();
  journal_.FreeSession(place_);
}

uint64_t SessionJournal::SessionEntry::id() const {
  absl::MutexLock lock(&mutex_);
  return record_.id();
}

void SessionJournal::SessionEntry::EraseLocked() {
  if (!erased_) record_slot_.Write("");
  erased_ = true;
}

void SessionJournal::SessionEntry::Erase() {
  absl::MutexLock lock(&mutex_);
  EraseLocked();
}

bool SessionJournal::SessionEntry::Update(
    const std::function<void(journal::SessionRecord*)>& change) {
  absl::MutexLock lock(&mutex_);
  if (erased_) return true;
  change(&record_);
  if (record_slot_.Write(record_.SerializeAsString())) return true;
  // They only describe it. Of gaps the last is needed.
  record_.clear_events();
  while (record_.gaps_size() > 1) record_.mutable_gaps()->DeleteSubrange(0, 1);
  if (record_slot_.Write(record_.SerializeAsString())) return true;
  EraseLocked();
  return false;
}

void SessionJournal::SessionEntry::WriteFigures(const std::function<SessionFigures()>& figures) {
  absl::MutexLock lock(&mutex_);
  if (!erased_) figures_slot_.Write(BytesOf(figures()));
}

SessionJournal::StreamEntry::StreamEntry(SessionJournal* journal, size_t place)
    : journal_(*journal), place_(place), slot_(journal->StreamMemory(place)) {}

SessionJournal::StreamEntry::~StreamEntry() {
  slot_.Write("");
  journal_.FreeStream(place_);
}

void SessionJournal::StreamEntry::Write(const StreamPoint& point) { slot_.Write(BytesOf(point)); }

}  // namespace lbrd::daemon
