#include "daemon/kernel_names.h"

#include <elf.h>

#include <atomic>
#include <cstring>
#include <utility>

#include "absl/base/call_once.h"
#include "absl/base/thread_annotations.h"
#include "absl/hash/hash.h"
#include "absl/strings/escaping.h"
#include "absl/synchronization/mutex.h"

namespace lbrd::daemon {
namespace {

// Some 200,000 lines of 50 bytes; modules and BPF programs add to it.
constexpr uint64_t kMaxKallsymsBytes = uint64_t{256} << 20;

// What the latest text came to, for as long as somebody has it.
class LatestNames {
 public:
  // Null: it was another text, or nobody has them any more.
  std::shared_ptr<const unwind::KernelSymbols> Of(size_t hash) {
    absl::MutexLock lock(&mutex_);
    return hash == hash_ ? symbols_.lock() : nullptr;
  }
  void Set(size_t hash, const std::shared_ptr<const unwind::KernelSymbols>& symbols) {
    absl::MutexLock lock(&mutex_);
    hash_ = hash;
    symbols_ = symbols;
  }

 private:
  absl::Mutex mutex_;
  size_t hash_ ABSL_GUARDED_BY(mutex_) = 0;
  std::weak_ptr<const unwind::KernelSymbols> symbols_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

struct KernelNameSource::State {
  std::function<KernelNames()> read;
  absl::once_flag once;
  KernelNames names;
  std::atomic<bool> known = false;
};

KernelNameSource::KernelNameSource(KernelNames known)
    : KernelNameSource([known = std::move(known)] { return known; }) {
  Get();
}

KernelNameSource::KernelNameSource(std::function<KernelNames()> read)
    : state_(std::make_shared<State>()) {
  state_->read = std::move(read);
}

const KernelNames& KernelNameSource::Get() const {
  absl::call_once(state_->once, [this] {
    state_->names = state_->read();
    state_->known.store(true, std::memory_order_release);  // pairs with known()
  });
  return *known();  // who waited acquires there what was read, as ThreadSanitizer can see
}

const KernelNames* KernelNameSource::known() const {
  return state_->known.load(std::memory_order_acquire) ? &state_->names : nullptr;
}

KernelNames ReadKernelNames(pmu::Kernel& kernel) {
  const absl::StatusOr<std::string> text = kernel.ReadFile("/proc/kallsyms", kMaxKallsymsBytes);
  if (!text.ok()) return {nullptr, std::string(text.status().message())};
  static auto* const latest = new LatestNames;
  const size_t hash = absl::HashOf(absl::string_view(*text));
  if (auto symbols = latest->Of(hash); symbols != nullptr) return {std::move(symbols), ""};
  absl::StatusOr<unwind::KernelSymbols> parsed = unwind::KernelSymbols::Parse(*text);
  if (!parsed.ok()) return {nullptr, std::string(parsed.status().message())};
  auto symbols = std::make_shared<const unwind::KernelSymbols>(*std::move(parsed));
  latest->Set(hash, symbols);
  return {std::move(symbols), ""};
}

std::string KernelBuildId(pmu::Kernel& kernel) {
  const absl::StatusOr<std::string> notes = kernel.ReadFile("/sys/kernel/notes", 65536);
  if (!notes.ok()) return "";
  absl::string_view rest = *notes;
  while (rest.size() >= sizeof(Elf64_Nhdr)) {
    Elf64_Nhdr note;
    std::memcpy(&note, rest.data(), sizeof(note));
    rest.remove_prefix(sizeof(note));
    const uint64_t name_bytes = (uint64_t{note.n_namesz} + 3) / 4 * 4;
    const uint64_t bytes = (uint64_t{note.n_descsz} + 3) / 4 * 4;
    if (name_bytes > rest.size() || bytes > rest.size() - name_bytes) break;
    if (note.n_type == NT_GNU_BUILD_ID &&
        rest.substr(0, note.n_namesz) == absl::string_view("GNU", 4)) {
      return absl::BytesToHexString(rest.substr(name_bytes, note.n_descsz));
    }
    rest.remove_prefix(name_bytes + bytes);
  }
  return "";
}

}  // namespace lbrd::daemon
