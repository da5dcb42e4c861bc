#include "pmu/file_window.h"

#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <mutex>
#include <optional>
#include <utility>

#include "absl/status/status.h"

namespace lbrd::pmu {
namespace {

// What a signal's handler may look at: no locks, no memory that moves.
struct Slot {
  std::atomic<bool> taken = false;
  std::atomic<uintptr_t> begin = 0;
  std::atomic<uintptr_t> end = 0;  // 0: no window
  std::atomic<std::atomic<bool>*> lost = nullptr;
};
static_assert(std::atomic<uintptr_t>::is_always_lock_free);

std::array<Slot, FileWindow::kMost> slots;
struct sigaction before;

uintptr_t PageBytes() {
  static const auto bytes = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

// The thread that faults has the window, so that its slot stays as it is.
bool PutZeros(uintptr_t address) {
  for (Slot& slot : slots) {
    const uintptr_t end = slot.end.load(std::memory_order_acquire);
    if (address < slot.begin.load(std::memory_order_relaxed) || address >= end) continue;
    const uintptr_t page = address / PageBytes() * PageBytes();
    void* const zeros = mmap(reinterpret_cast<void*>(page), PageBytes(), PROT_READ,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (zeros == MAP_FAILED) return false;
    slot.lost.load(std::memory_order_relaxed)->store(true, std::memory_order_relaxed);
    return true;
  }
  return false;
}

void HandleBusError(int signal, siginfo_t* info, void* context) {
  const int error = errno;
  if (PutZeros(reinterpret_cast<uintptr_t>(info->si_addr))) {
    errno = error;
    return;
  }
  if ((before.sa_flags & SA_SIGINFO) != 0) return before.sa_sigaction(signal, info, context);
  if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
    return before.sa_handler(signal);
  }
  // The same access again, now without a handler.
  sigaction(signal, &before, nullptr);
}

void HandleBusErrors() {
  static std::once_flag once;
  std::call_once(once, [] {
    PageBytes();  // asked for before a handler asks
    struct sigaction action {};
    action.sa_sigaction = HandleBusError;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, &before);
  });
}

std::optional<size_t> TakeSlot() {
  for (size_t i = 0; i < slots.size(); ++i) {
    if (!slots[i].taken.exchange(true, std::memory_order_acquire)) return i;
  }
  return std::nullopt;
}

}  // namespace

FileWindow::FileWindow(FileWindow&& other) noexcept
    : begin_(std::exchange(other.begin_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      slot_(other.slot_) {}

FileWindow& FileWindow::operator=(FileWindow&& other) noexcept {
  if (this == &other) return *this;
  Close();
  begin_ = std::exchange(other.begin_, nullptr);
  size_ = std::exchange(other.size_, 0);
  slot_ = other.slot_;
  return *this;
}

absl::StatusOr<FileWindow> FileWindow::Map(int fd, uint64_t offset, size_t bytes,
                                           std::atomic<bool>* lost) {
  HandleBusErrors();
  const std::optional<size_t> taken = TakeSlot();
  if (!taken.has_value()) return absl::ResourceExhaustedError("too many windows of files");
  Slot& slot = slots[*taken];
  void* const begin = mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, fd, static_cast<off_t>(offset));
  if (begin == MAP_FAILED) {
    const absl::Status status = absl::ErrnoToStatus(errno, "cannot map a file");
    slot.taken.store(false, std::memory_order_release);
    return status;
  }
  slot.lost.store(lost, std::memory_order_relaxed);
  slot.begin.store(reinterpret_cast<uintptr_t>(begin), std::memory_order_relaxed);
  slot.end.store(reinterpret_cast<uintptr_t>(begin) + bytes, std::memory_order_release);
  FileWindow window;
  window.begin_ = static_cast<const std::byte*>(begin);
  window.size_ = bytes;
  window.slot_ = *taken;
  return window;
}

void FileWindow::Close() {
  if (begin_ == nullptr) return;
  slots[slot_].end.store(0, std::memory_order_release);
  munmap(const_cast<std::byte*>(begin_), size_);
  slots[slot_].taken.store(false, std::memory_order_release);
  begin_ = nullptr;
  size_ = 0;
}

}  // namespace lbrd::pmu
