#include "daemon/journal_slot.h"

#include <atomic>
#include <cstring>

#include "daemon/siphash.h"

namespace lbrd::daemon {
namespace {

// No secret: see the header.
constexpr SipKey kKey{.k0 = 0x6a6f75726e616c20, .k1 = 0x6f66206c62726420};

struct Header {
  uint64_t serial;
  uint64_t bytes;
  uint64_t checksum;
};
static_assert(sizeof(Header) == JournalSlot::kHeaderBytes);

uint64_t Checksum(uint64_t serial, absl::string_view record) {
  SipHasher hasher(kKey);
  hasher.AddInt(serial);
  hasher.AddText(record);
  return hasher.Finish();
}

std::atomic_ref<uint64_t> SerialOf(std::span<std::byte> copy) {
  return std::atomic_ref<uint64_t>(*reinterpret_cast<uint64_t*>(copy.data()));
}

}  // namespace

JournalSlot::JournalSlot(std::span<std::byte> memory) : memory_(memory) {
  std::string record;
  const uint64_t serials[2] = {ReadCopy(0, &record), ReadCopy(1, &record)};
  next_ = serials[0] > serials[1] ? 1 : 0;
  serial_ = serials[1 - next_];
  if (serial_ != UINT64_MAX) return;
  // No engine comes so far; somebody wrote that.
  for (size_t i = 0; i < 2; ++i) SerialOf(Copy(i)).store(0, std::memory_order_release);
  serial_ = 0;
}

uint64_t JournalSlot::ReadCopy(size_t which, std::string* record) const {
  const std::span<std::byte> copy = Copy(which);
  Header header;
  std::memcpy(&header, copy.data(), sizeof(header));
  if (header.serial == 0 || header.bytes > capacity()) return 0;
  record->assign(reinterpret_cast<const char*>(copy.data()) + sizeof(header), header.bytes);
  return Checksum(header.serial, *record) == header.checksum ? header.serial : 0;
}

bool JournalSlot::Write(absl::string_view record) {
  if (record.size() > capacity()) return false;
  const std::span<std::byte> copy = Copy(next_);
  // Whoever is killed leaves its stores up to some point of the program, and none from there on. So
  // a copy has a serial number only while it is whole; the checksum says so once more.
  SerialOf(copy).store(0, std::memory_order_release);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const Header header{
      .serial = 0, .bytes = record.size(), .checksum = Checksum(serial_ + 1, record)};
  std::memcpy(copy.data() + sizeof(header.serial), &header.bytes, sizeof(header) - 8);
  if (!record.empty()) std::memcpy(copy.data() + sizeof(header), record.data(), record.size());
  SerialOf(copy).store(++serial_, std::memory_order_release);
  next_ = 1 - next_;
  return true;
}

std::string JournalSlot::Read() const {
  std::string records[2];
  const uint64_t serials[2] = {ReadCopy(0, &records[0]), ReadCopy(1, &records[1])};
  if (serials[0] == 0 && serials[1] == 0) return "";
  return records[serials[0] > serials[1] ? 0 : 1];
}

}  // namespace lbrd::daemon
