#include "daemon/history_definitions.h"

#include <algorithm>
#include <utility>

#include "daemon/history_schema.h"

namespace lbrd::daemon {
namespace {

// Far deeper than any stack that is stored; a longer way to the root is a damaged file's.
constexpr size_t kMaxDepth = 1 << 14;

std::optional<uint32_t> OptionalUser(const Statement& row, int column) {
  if (row.IsNull(column)) return std::nullopt;
  return static_cast<uint32_t>(row.Int(column));
}

template <typename Enum>
Enum EnumOf(int64_t value, Enum last) {
  return static_cast<Enum>(std::clamp<int64_t>(value, 0, static_cast<int64_t>(last)));
}

}  // namespace

absl::StatusOr<HistoryDefinitions> HistoryDefinitions::Open(Database* database,
                                                            bool hide_kernel_addresses) {
  HistoryDefinitions definitions(hide_kernel_addresses);
  const std::pair<Statement*, const char*> texts[] = {
      {&definitions.thread_,
       "SELECT t.tid, t.comm, p.pid, p.comm, p.uid, p.owner, p.cgroup, p.exe "
       "FROM threads t JOIN processes p ON p.id = t.process WHERE t.id = ?"},
      {&definitions.piece_, "SELECT parent, words FROM stacks WHERE id = ?"},
      {&definitions.frame_, "SELECT binary, source, symbol, offset FROM frames WHERE id = ?"},
      {&definitions.binary_, "SELECT path, build_id, symbols_missing FROM binaries WHERE id = ?"},
  };
  for (const auto& [statement, text] : texts) {
    absl::StatusOr<Statement> prepared = database->Prepare(text);
    if (!prepared.ok()) return prepared.status();
    *statement = *std::move(prepared);
  }
  return definitions;
}

absl::StatusOr<const HistoryThread*> HistoryDefinitions::Thread(int64_t id) {
  std::unique_ptr<HistoryThread>& known = threads_[id];
  if (known != nullptr) return known.get();
  thread_.Bind(id);
  const absl::StatusOr<bool> row = thread_.Step();
  if (!row.ok()) return row.status();
  ThreadInfo info{.id = static_cast<uint32_t>(threads_.size()), .comm = "[missing]"};
  auto thread = std::make_unique<HistoryThread>();
  if (*row) {
    info.tid = static_cast<int32_t>(thread_.Int(0));
    info.comm = std::string(thread_.Text(1));
    info.pid = static_cast<int32_t>(thread_.Int(2));
    info.process_comm = std::string(thread_.Text(3));
    thread->uid = OptionalUser(thread_, 4);
    thread->owner = OptionalUser(thread_, 5);
    thread->cgroup = std::string(thread_.Text(6));
    thread->exe = std::string(thread_.Text(7));
  } else {
    ++missing_;
  }
  thread_.Reset();
  thread->thread = std::make_shared<ThreadInfo>(std::move(info));
  known = std::move(thread);
  return known.get();
}

absl::StatusOr<std::shared_ptr<const BinaryInfo>> HistoryDefinitions::Binary(int64_t id) {
  if (id == 0) return nullptr;
  std::shared_ptr<const BinaryInfo>& known = binaries_[id];
  if (known != nullptr) return known;
  binary_.Bind(id);
  const absl::StatusOr<bool> row = binary_.Step();
  if (!row.ok()) return row.status();
  auto binary = std::make_shared<BinaryInfo>();
  binary->id = static_cast<uint32_t>(binaries_.size());
  if (*row) {
    binary->path = std::string(binary_.Text(0));
    binary->build_id = std::string(binary_.Text(1));
    binary->symbols_missing = std::string(binary_.Text(2));
  } else {
    ++missing_;
    binary->path = "[missing]";
  }
  binary_.Reset();
  return known = std::move(binary);
}

absl::StatusOr<std::shared_ptr<const FrameInfo>> HistoryDefinitions::Frame(int64_t id) {
  if (const auto found = frames_.find(id); found != frames_.end()) return found->second;
  frame_.Bind(id);
  const absl::StatusOr<bool> row = frame_.Step();
  if (!row.ok()) return row.status();
  auto frame = std::make_shared<FrameInfo>();
  frame->id = static_cast<uint32_t>(frames_.size() + 1);
  int64_t binary_id = 0;
  if (*row) {
    binary_id = frame_.Int(0);
    frame->source = EnumOf(frame_.Int(1), unwind::FrameSource::kGuess);
    frame->symbol = std::string(frame_.Text(2));
    frame->offset = static_cast<uint64_t>(frame_.Int(3));
  } else {
    ++missing_;
    frame->symbol = "[missing]";
  }
  frame_.Reset();
  absl::StatusOr<std::shared_ptr<const BinaryInfo>> binary = Binary(binary_id);
  if (!binary.ok()) return binary.status();
  frame->binary = *std::move(binary);
  if (hide_kernel_addresses_ && frame->source == unwind::FrameSource::kKernel &&
      frame->symbol.empty()) {
    frame->offset = 0;
  }
  frames_.emplace(id, frame);
  return std::shared_ptr<const FrameInfo>(std::move(frame));
}

absl::StatusOr<const HistoryDefinitions::Piece*> HistoryDefinitions::ReadPiece(int64_t id) {
  if (const auto found = pieces_.find(id); found != pieces_.end()) return found->second.get();
  piece_.Bind(id);
  const absl::StatusOr<bool> row = piece_.Step();
  if (!row.ok()) return row.status();
  auto piece = std::make_unique<Piece>();
  if (*row) {
    piece->parent = piece_.Int(0);
    piece->words = std::string(piece_.Text(1));
  } else {
    ++missing_;
    AppendHistoryWord(static_cast<int64_t>(unwind::StackState::kUnknown) << 8, &piece->words);
  }
  piece_.Reset();
  return pieces_.emplace(id, std::move(piece)).first->second.get();
}

absl::StatusOr<std::shared_ptr<const StackInfo>> HistoryDefinitions::Stack(int64_t id) {
  if (const auto found = stacks_.find(id); found != stacks_.end()) return found->second;
  auto stack = std::make_shared<StackInfo>();
  stack->id = stacks_.size() + 1;
  for (int64_t at = id;;) {
    const absl::StatusOr<const Piece*> piece = ReadPiece(at);
    if (!piece.ok()) return piece.status();
    at = (*piece)->parent;
    const absl::string_view words = (*piece)->words;
    const bool first = at == 0 || stack->frames.size() >= kMaxDepth;
    for (size_t i = words.size() / 8; i > (first ? 1 : 0); --i) {
      absl::StatusOr<std::shared_ptr<const FrameInfo>> frame = Frame(HistoryWordAt(words, i - 1));
      if (!frame.ok()) return frame.status();
      stack->has_user = stack->has_user || (*frame)->source != unwind::FrameSource::kKernel;
      stack->frames.push_back(*std::move(frame));
    }
    if (!first) continue;
    const int64_t verdict = HistoryWordAt(words, 0);
    stack->verdict.state = EnumOf(verdict >> 8, unwind::StackState::kUnknown);
    stack->verdict.reason = static_cast<unwind::StackReason>(verdict & 31);
    break;
  }
  stacks_.emplace(id, stack);
  return std::shared_ptr<const StackInfo>(std::move(stack));
}

}  // namespace lbrd::daemon
