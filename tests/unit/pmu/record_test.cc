#include "pmu/record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <variant>

#include "record_bytes.h"

namespace lbrd::pmu {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr uint64_t kWho = PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_CPU;

// What the records of these tests end with: pid 7, tid 8, time 900, cpu 3.
RecordFormat WithTrailer() { return {.sample_type = kWho, .sample_id_all = true}; }
RecordBytes& PutTrailer(RecordBytes& record) { return record.U32(7).U32(8).U64(900).U32(3).U32(0); }

template <typename T>
T Decode(RecordBytes& record, const RecordFormat& format) {
  absl::StatusOr<Record> decoded = DecodeRecord(record.Header(), format);
  EXPECT_TRUE(decoded.ok()) << decoded.status();
  if (!decoded.ok() || !std::holds_alternative<T>(*decoded)) {
    ADD_FAILURE() << "not the kind of record that was expected";
    return T{};
  }
  return std::get<T>(*decoded);
}

void ExpectTrailer(const SampleId& who, int32_t pid = 7, int32_t tid = 8) {
  EXPECT_EQ(who.pid, pid);
  EXPECT_EQ(who.tid, tid);
  EXPECT_EQ(who.time, 900u);
  EXPECT_EQ(who.cpu, 3u);
  EXPECT_TRUE(who.has_tid && who.has_time && who.has_cpu);
}

// Every field that a sample can have.
RecordFormat EveryField() {
  return {.sample_type = (uint64_t{1} << 25) - 1,
          .read_format = PERF_FORMAT_GROUP | PERF_FORMAT_ID | PERF_FORMAT_LOST |
                         PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING,
          .branch_sample_type = PERF_SAMPLE_BRANCH_HW_INDEX | kBranchCounters,
          .sample_regs_user = 0b1011,
          .sample_regs_intr = 0b11};
}
RecordBytes SampleWithEveryField() {
  RecordBytes record(PERF_RECORD_SAMPLE, PERF_RECORD_MISC_USER);
  record.U64(55).U64(0x401000);                // identifier, ip
  record.U32(7).U32(8).U64(900).U64(0xadd);    // tid, time, addr
  record.U64(55).U64(1).U32(3).U32(0);         // id, stream id, cpu
  record.U64(4000);                            // period
  record.U64s({2, 10, 11, 1, 2, 3, 4, 5, 6});  // read: nr, times, (value, id, lost) twice
  record.U64s({3, PERF_CONTEXT_USER, 0x401000, 0x402000});
  record.U32(4).U32(0xffffffff);                       // raw
  record.U64s({2, 17, 0x10, 0x20, 1, 0x30, 0x40, 2});  // branches, with their hardware index
  record.U64s({100, 101});                             // counters
  record.U64s({PERF_SAMPLE_REGS_ABI_64, 1000, 1001, 1003});
  record.U64(16).Bytes("0123456789abcdef").U64(9);  // stack, of which 9 bytes are good
  record.U64s({1, 2, 3});                           // weight, data source, transaction
  record.U64s({PERF_SAMPLE_REGS_ABI_64, 2000, 2001});
  record.U64(0x9).U64(77).U64(4096).U64(4096);  // physical address, cgroup, page sizes
  record.U64(8).U64(0xa0);                      // aux
  return record;
}

TEST(DecodeSample, ReadsEveryFieldInTheKernelsOrder) {
  RecordBytes record = SampleWithEveryField();
  const SampleRecord sample = Decode<SampleRecord>(record, EveryField());
  ExpectTrailer(sample.who);
  EXPECT_EQ(sample.who.id, 55u);
  EXPECT_EQ(sample.cpumode, PERF_RECORD_MISC_USER);
  EXPECT_TRUE(sample.has_ip);
  EXPECT_EQ(sample.ip, 0x401000u);
  EXPECT_EQ(sample.addr, 0xaddu);
  EXPECT_EQ(sample.period, 4000u);
  EXPECT_TRUE(sample.has_callchain);
  EXPECT_THAT(sample.callchain,
              ElementsAre(static_cast<uint64_t>(PERF_CONTEXT_USER), 0x401000, 0x402000));
  EXPECT_TRUE(sample.has_branch_stack);
  EXPECT_EQ(sample.branch_stack.hw_index, 17u);
  ASSERT_EQ(sample.branch_stack.branches.size(), 2u);
  EXPECT_EQ(sample.branch_stack.branches[0].from, 0x10u);
  EXPECT_EQ(sample.branch_stack.branches[1].to, 0x40u);
  EXPECT_EQ(sample.branch_stack.branches[1].flags, 2u);
  EXPECT_THAT(sample.user_regs.values, ElementsAre(1000, 1001, 1003));
  EXPECT_EQ(sample.user_stack_asked, 16u);
  EXPECT_EQ(sample.user_stack.size(), 9u);
  EXPECT_EQ(sample.user_stack[8], std::byte{'8'});
  EXPECT_EQ(sample.cgroup, 77u);
}

TEST(DecodeSample, RefusesARecordThatIsCutOffAnywhere) {
  RecordBytes record = SampleWithEveryField();
  for (size_t size = sizeof(perf_event_header); size < record.size(); ++size) {
    const absl::StatusOr<Record> decoded = DecodeRecord(record.Header(size), EveryField());
    EXPECT_EQ(decoded.status().code(), absl::StatusCode::kDataLoss) << size;
  }
}

TEST(DecodeSample, PeekAgrees) {
  RecordBytes record = SampleWithEveryField();
  const std::optional<SampleId> who = PeekRecord(record.Header(), EveryField());
  ASSERT_TRUE(who.has_value());
  ExpectTrailer(*who);
  EXPECT_EQ(who->id, 55u);
}

TEST(DecodeSample, CarriesNothingThatTheFormatDoesNotPromise) {
  RecordBytes record(PERF_RECORD_SAMPLE, PERF_RECORD_MISC_KERNEL);
  const SampleRecord sample = Decode<SampleRecord>(record, RecordFormat{});
  EXPECT_FALSE(sample.has_ip || sample.has_branch_stack || sample.has_callchain);
  EXPECT_FALSE(sample.who.has_tid || sample.who.has_time || sample.who.has_cpu);
  EXPECT_EQ(sample.who.pid, -1);
  EXPECT_EQ(sample.cpumode, PERF_RECORD_MISC_KERNEL);
}

struct ReadCase {
  uint64_t format;
  std::vector<uint64_t> words;
};
class DecodeRead : public testing::TestWithParam<ReadCase> {};
TEST_P(DecodeRead, FindsWhatFollows) {
  RecordBytes record(PERF_RECORD_SAMPLE, 0);
  for (const uint64_t word : GetParam().words) record.U64(word);
  record.U64s({1, 0x1234});
  const SampleRecord sample = Decode<SampleRecord>(
      record,
      {.sample_type = PERF_SAMPLE_READ | PERF_SAMPLE_CALLCHAIN, .read_format = GetParam().format});
  EXPECT_THAT(sample.callchain, ElementsAre(0x1234));
}
INSTANTIATE_TEST_SUITE_P(
    Formats, DecodeRead,
    testing::Values(ReadCase{0, {9}}, ReadCase{PERF_FORMAT_ID, {9, 1}},
                    ReadCase{PERF_FORMAT_ID | PERF_FORMAT_LOST, {9, 1, 0}},
                    ReadCase{PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_LOST, {9, 5, 0}},
                    ReadCase{PERF_FORMAT_GROUP, {3, 9, 9, 9}}, ReadCase{PERF_FORMAT_GROUP, {0}},
                    ReadCase{PERF_FORMAT_GROUP | PERF_FORMAT_TOTAL_TIME_RUNNING | PERF_FORMAT_ID,
                             {2, 5, 9, 1, 9, 2}}));

constexpr uint64_t kBranchesAndRegs = PERF_SAMPLE_BRANCH_STACK | PERF_SAMPLE_REGS_USER;

TEST(DecodeBranchStack, EmptyWithItsHardwareIndex) {
  RecordBytes record(PERF_RECORD_SAMPLE, 0);
  record.U64s({0, 31, PERF_SAMPLE_REGS_ABI_64, 0xf00});
  const SampleRecord sample =
      Decode<SampleRecord>(record, {.sample_type = kBranchesAndRegs,
                                    .branch_sample_type = PERF_SAMPLE_BRANCH_HW_INDEX,
                                    .sample_regs_user = 1});
  EXPECT_TRUE(sample.has_branch_stack);
  EXPECT_THAT(sample.branch_stack.branches, IsEmpty());
  EXPECT_EQ(sample.branch_stack.hw_index, 31u);
  EXPECT_EQ(sample.user_regs.Get(0), 0xf00u);
}

TEST(DecodeBranchStack, EmptyWithoutItsHardwareIndex) {
  RecordBytes record(PERF_RECORD_SAMPLE, 0);
  record.U64s({0, PERF_SAMPLE_REGS_ABI_64, 0xf00});
  const SampleRecord sample = Decode<SampleRecord>(
      record, {.sample_type = kBranchesAndRegs,
               .branch_sample_type = PERF_SAMPLE_BRANCH_HW_INDEX | kBranchCounters,
               .sample_regs_user = 1});
  EXPECT_TRUE(sample.has_branch_stack);
  EXPECT_FALSE(sample.branch_stack.hw_index.has_value());
  EXPECT_EQ(sample.user_regs.Get(0), 0xf00u);
}

TEST(DecodeBranchStack, TheLayoutThatAccountsForEveryByteWins) {
  // With a hardware index, the registers would be "none" and a word would be left over.
  RecordBytes record(PERF_RECORD_SAMPLE, 0);
  record.U64s({0, PERF_SAMPLE_REGS_ABI_64, 0, 0x7f});
  const SampleRecord sample =
      Decode<SampleRecord>(record, {.sample_type = kBranchesAndRegs,
                                    .branch_sample_type = PERF_SAMPLE_BRANCH_HW_INDEX,
                                    .sample_regs_user = 0b11});
  EXPECT_FALSE(sample.branch_stack.hw_index.has_value());
  EXPECT_EQ(sample.user_regs.Get(1), 0x7fu);
}

TEST(DecodeBranchStack, CountersMayBeLeftOut) {
  RecordBytes record(PERF_RECORD_SAMPLE, 0);
  record.U64s({1, 31, 0x10, 0x20, 0, PERF_SAMPLE_REGS_ABI_64, 0xf00});
  const SampleRecord sample = Decode<SampleRecord>(
      record, {.sample_type = kBranchesAndRegs,
               .branch_sample_type = PERF_SAMPLE_BRANCH_HW_INDEX | kBranchCounters,
               .sample_regs_user = 1});
  ASSERT_EQ(sample.branch_stack.branches.size(), 1u);
  EXPECT_EQ(sample.branch_stack.branches[0].from, 0x10u);
  EXPECT_EQ(sample.branch_stack.hw_index, 31u);
  EXPECT_EQ(sample.user_regs.Get(0), 0xf00u);
}

TEST(DecodeBranchStack, FieldsOfNewerKernelsMayFollow) {
  RecordBytes record(PERF_RECORD_SAMPLE, 0);
  record.U64s({1, 31, 0x10, 0x20, 0, 0xfeed, 0xbeef});
  const SampleRecord sample =
      Decode<SampleRecord>(record, {.sample_type = PERF_SAMPLE_BRANCH_STACK | (uint64_t{1} << 40),
                                    .branch_sample_type = PERF_SAMPLE_BRANCH_HW_INDEX});
  ASSERT_EQ(sample.branch_stack.branches.size(), 1u);
  EXPECT_EQ(sample.branch_stack.hw_index, 31u);
}

TEST(DecodeSample, RefusesCountsThatOverflow) {
  for (const uint64_t field : {PERF_SAMPLE_CALLCHAIN, PERF_SAMPLE_BRANCH_STACK,
                               PERF_SAMPLE_STACK_USER, PERF_SAMPLE_AUX, PERF_SAMPLE_READ}) {
    for (const uint64_t count :
         {uint64_t{9}, uint64_t{1} << 32, uint64_t{1} << 60, uint64_t{1} << 61,
          (uint64_t{1} << 61) + 1, ~uint64_t{0} / 24 + 1, ~uint64_t{0} - 7, ~uint64_t{0}}) {
      RecordBytes record(PERF_RECORD_SAMPLE, 0);
      record.U64s({count, 0});
      EXPECT_FALSE(
          DecodeRecord(record.Header(),
                       {.sample_type = field, .read_format = PERF_FORMAT_GROUP | PERF_FORMAT_ID})
              .ok())
          << field << " " << count;
    }
  }
}

TEST(DecodeSample, RefusesRawDataThatMisalignsTheRest) {
  RecordBytes record(PERF_RECORD_SAMPLE, 0);
  record.U32(5).Bytes("abcde").U64(1).U64s({1, 2, 3}).Bytes("fff");
  EXPECT_FALSE(
      DecodeRecord(record.Header(), {.sample_type = PERF_SAMPLE_RAW | PERF_SAMPLE_BRANCH_STACK})
          .ok());
}

TEST(DecodeSample, NoRegistersWithoutAnAbi) {
  RecordBytes record(PERF_RECORD_SAMPLE, 0);
  record.U64(PERF_SAMPLE_REGS_ABI_NONE).U64(0);  // a kernel thread: no registers, no stack
  const SampleRecord sample = Decode<SampleRecord>(
      record,
      {.sample_type = PERF_SAMPLE_REGS_USER | PERF_SAMPLE_STACK_USER, .sample_regs_user = 0xff});
  EXPECT_EQ(sample.user_regs.mask, 0xffu) << "what was asked for";
  EXPECT_THAT(sample.user_regs.values, IsEmpty());
  EXPECT_EQ(sample.user_regs.Get(0), std::nullopt);
  EXPECT_THAT(sample.user_stack, IsEmpty());
}

TEST(DecodeSample, NeverShowsMoreStackThanThereIs) {
  RecordBytes record(PERF_RECORD_SAMPLE, 0);
  record.U64(8).U64(0).U64(~uint64_t{0});
  const SampleRecord sample = Decode<SampleRecord>(record, {.sample_type = PERF_SAMPLE_STACK_USER});
  EXPECT_EQ(sample.user_stack.size(), 8u);
}

TEST(Registers, GetCountsTheMasksBits) {
  const uint64_t values[] = {10, 20, 30};
  const Registers registers{
      .abi = PERF_SAMPLE_REGS_ABI_64, .mask = (uint64_t{1} << 63) | 0b1010, .values = values};
  EXPECT_EQ(registers.Get(1), 10u);
  EXPECT_EQ(registers.Get(3), 20u);
  EXPECT_EQ(registers.Get(63), 30u);
  EXPECT_EQ(registers.Get(0), std::nullopt);
  EXPECT_EQ(registers.Get(64), std::nullopt);
  EXPECT_EQ(registers.Get(~0u), std::nullopt);
}

TEST(DecodeMmap, OldKind) {
  RecordBytes record(PERF_RECORD_MMAP, PERF_RECORD_MISC_USER);
  PutTrailer(record.U32(70).U32(71).U64s({0x1000, 0x2000, 0x300}).Text("/bin/true"));
  const MmapRecord map = Decode<MmapRecord>(record, WithTrailer());
  ExpectTrailer(map.who, 70, 71);
  EXPECT_EQ(map.pid, 70);
  EXPECT_EQ(map.tid, 71);
  EXPECT_EQ(map.start, 0x1000u);
  EXPECT_EQ(map.length, 0x2000u);
  EXPECT_EQ(map.file_offset, 0x300u);
  EXPECT_TRUE(map.executable);
  EXPECT_FALSE(map.kernel);
  EXPECT_EQ(map.path, "/bin/true");

  RecordBytes data(PERF_RECORD_MMAP, PERF_RECORD_MISC_MMAP_DATA);
  PutTrailer(data.U32(70).U32(71).U64s({0x1000, 0x2000, 0x300}).Text("/bin/true"));
  EXPECT_FALSE(Decode<MmapRecord>(data, WithTrailer()).executable);
}

RecordBytes Mmap2(uint16_t misc, uint32_t protection) {
  RecordBytes record(PERF_RECORD_MMAP2, misc);
  record.U32(70).U32(70).U64s({0x1000, 0x2000, 0x300});
  if (misc & PERF_RECORD_MISC_MMAP_BUILD_ID) {
    record.U32(20).Bytes("01234567890123456789");
  } else {
    record.U32(8).U32(1).U64(1234).U64(5);
  }
  record.U32(protection).U32(2).Text("/lib/libc.so.6");
  return record;
}

TEST(DecodeMmap, WithAnInode) {
  RecordBytes record = Mmap2(PERF_RECORD_MISC_USER, 5);
  const MmapRecord map = Decode<MmapRecord>(record, RecordFormat{});
  EXPECT_EQ(map.file.major, 8u);
  EXPECT_EQ(map.file.minor, 1u);
  EXPECT_EQ(map.file.inode, 1234u);
  EXPECT_EQ(map.file.inode_generation, 5u);
  EXPECT_THAT(map.file.build_id, IsEmpty());
  EXPECT_TRUE(map.executable);
  EXPECT_EQ(map.path, "/lib/libc.so.6");
  RecordBytes readable = Mmap2(PERF_RECORD_MISC_USER, 1);
  EXPECT_FALSE(Decode<MmapRecord>(readable, RecordFormat{}).executable);
}

TEST(DecodeMmap, WithABuildId) {
  RecordBytes record = Mmap2(PERF_RECORD_MISC_KERNEL | PERF_RECORD_MISC_MMAP_BUILD_ID, 0);
  const MmapRecord map = Decode<MmapRecord>(record, RecordFormat{});
  ASSERT_EQ(map.file.build_id.size(), 20u);
  EXPECT_EQ(map.file.build_id[19], std::byte{'9'});
  EXPECT_EQ(map.file.inode, 0u);
  EXPECT_TRUE(map.kernel);
  EXPECT_TRUE(map.executable);
}

TEST(DecodeMmap, ANameWithoutItsEndEndsWithTheRecord) {
  RecordBytes record(PERF_RECORD_MMAP, 0);
  record.U32(1).U32(1).U64s({1, 2, 3}).Bytes("12345678");
  EXPECT_EQ(Decode<MmapRecord>(record, RecordFormat{}).path, "12345678");
  PutTrailer(record);
  EXPECT_EQ(Decode<MmapRecord>(record, WithTrailer()).path, "12345678");
}

TEST(DecodeSideBand, Comm) {
  RecordBytes record(PERF_RECORD_COMM, PERF_RECORD_MISC_COMM_EXEC);
  PutTrailer(record.U32(70).U32(71).Text("bash"));
  const CommRecord comm = Decode<CommRecord>(record, WithTrailer());
  ExpectTrailer(comm.who, 70, 71);
  EXPECT_EQ(comm.comm, "bash");
  EXPECT_TRUE(comm.exec);
}

TEST(DecodeSideBand, ForkIsAboutTheChild) {
  RecordBytes record(PERF_RECORD_FORK, 0);
  PutTrailer(record.U32(70).U32(60).U32(71).U32(61).U64(899));
  const TaskRecord task = Decode<TaskRecord>(record, WithTrailer());
  ExpectTrailer(task.who, 70, 71);
  EXPECT_FALSE(task.exit);
  EXPECT_EQ(task.pid, 70);
  EXPECT_EQ(task.ppid, 60);
  EXPECT_EQ(task.tid, 71);
  EXPECT_EQ(task.ptid, 61);
  EXPECT_EQ(task.time, 899u);
}

TEST(DecodeSideBand, ExitHasATimeOfItsOwn) {
  RecordBytes record(PERF_RECORD_EXIT, 0);
  record.U32(70).U32(60).U32(71).U32(61).U64(899);
  const TaskRecord task = Decode<TaskRecord>(record, RecordFormat{});
  EXPECT_TRUE(task.exit);
  EXPECT_TRUE(task.who.has_time);
  EXPECT_EQ(task.who.time, 899u);
}

TEST(DecodeSideBand, Lost) {
  RecordBytes lost(PERF_RECORD_LOST, 0);
  PutTrailer(lost.U64(55).U64(12));
  EXPECT_EQ(Decode<LostRecord>(lost, WithTrailer()).count, 12u);
  EXPECT_FALSE(Decode<LostRecord>(lost, WithTrailer()).samples_only);
  RecordBytes samples(PERF_RECORD_LOST_SAMPLES, 0);
  PutTrailer(samples.U64(13));
  EXPECT_EQ(Decode<LostRecord>(samples, WithTrailer()).count, 13u);
  EXPECT_TRUE(Decode<LostRecord>(samples, WithTrailer()).samples_only);
}

TEST(DecodeSideBand, Throttle) {
  RecordBytes throttle(PERF_RECORD_THROTTLE, 0);
  PutTrailer(throttle.U64s({900, 55, 1}));
  EXPECT_TRUE(Decode<ThrottleRecord>(throttle, WithTrailer()).throttled);
  RecordBytes unthrottle(PERF_RECORD_UNTHROTTLE, 0);
  PutTrailer(unthrottle.U64s({900, 55, 1}));
  EXPECT_FALSE(Decode<ThrottleRecord>(unthrottle, WithTrailer()).throttled);
}

TEST(DecodeSideBand, Ksymbol) {
  RecordBytes record(PERF_RECORD_KSYMBOL, 0);
  PutTrailer(record.U64(0xffffffffc0000000).U32(64).U16(1).U16(1).Text("bpf_prog"));
  const KsymbolRecord symbol = Decode<KsymbolRecord>(record, WithTrailer());
  ExpectTrailer(symbol.who);
  EXPECT_EQ(symbol.address, 0xffffffffc0000000u);
  EXPECT_EQ(symbol.length, 64u);
  EXPECT_TRUE(symbol.unregister);
  EXPECT_EQ(symbol.name, "bpf_prog");
}

TEST(DecodeSideBand, DeferredCallchain) {
  RecordBytes record(kRecordCallchainDeferred, PERF_RECORD_MISC_USER);
  PutTrailer(record.U64(0x500000001).U64s({2, 0xa, 0xb}));
  const CallchainDeferredRecord deferred = Decode<CallchainDeferredRecord>(record, WithTrailer());
  ExpectTrailer(deferred.who);
  EXPECT_EQ(deferred.cookie, 0x500000001u);
  EXPECT_THAT(deferred.ips, ElementsAre(0xa, 0xb));

  // The trailer is not part of the chain.
  RecordBytes lying(kRecordCallchainDeferred, PERF_RECORD_MISC_USER);
  PutTrailer(lying.U64(0x500000001).U64s({3, 0xa, 0xb}));
  EXPECT_FALSE(DecodeRecord(lying.Header(), WithTrailer()).ok());
}

TEST(DecodeSideBand, WhatIsNotOfUseIsStillSomeones) {
  RecordBytes record(PERF_RECORD_SWITCH, 0);
  PutTrailer(record);
  const OtherRecord other = Decode<OtherRecord>(record, WithTrailer());
  EXPECT_EQ(other.type, static_cast<uint32_t>(PERF_RECORD_SWITCH));
  ExpectTrailer(other.who);
}

TEST(DecodeSideBand, RefusesRecordsThatAreCutOff) {
  for (uint32_t type = 1; type <= kRecordCallchainDeferred; ++type) {
    if (type == PERF_RECORD_SAMPLE) continue;
    RecordBytes record(type, 0);
    PutTrailer(record.U64s({0, 0, 0, 0, 0, 0, 0, 0, 0}));
    EXPECT_TRUE(DecodeRecord(record.Header(), WithTrailer()).ok()) << type;
    for (size_t size = 0; size < record.size(); ++size) {
      // Whatever the verdict, it never reads behind the end, and both ways of reading agree.
      const perf_event_header* header = record.Header(std::max(size, sizeof(perf_event_header)));
      const_cast<perf_event_header*>(header)->size = static_cast<uint16_t>(size);
      const absl::StatusOr<Record> decoded = DecodeRecord(header, WithTrailer());
      const std::optional<SampleId> who = PeekRecord(header, WithTrailer());
      EXPECT_TRUE(who.has_value() || !decoded.ok());
      if (size < sizeof(perf_event_header) + 24) {
        EXPECT_FALSE(who.has_value());
      }
    }
  }
}

TEST(PeekRecord, TrailerHoldsIdsInOrder) {
  RecordBytes record(PERF_RECORD_SWITCH, 0);
  record.U32(7).U32(8).U64(900).U64(41).U64(42).U32(3).U32(0).U64(43);
  const RecordFormat format{.sample_type = kWho | PERF_SAMPLE_ID | PERF_SAMPLE_STREAM_ID |
                                           PERF_SAMPLE_IDENTIFIER | PERF_SAMPLE_IP |
                                           PERF_SAMPLE_ADDR | PERF_SAMPLE_CALLCHAIN,
                            .sample_id_all = true};
  const std::optional<SampleId> who = PeekRecord(record.Header(), format);
  ASSERT_TRUE(who.has_value());
  ExpectTrailer(*who);
  EXPECT_EQ(who->id, 43u);
}

TEST(PeekIdentifier, StandsFirstInSamplesAndLastElsewhere) {
  RecordBytes sample(PERF_RECORD_SAMPLE, 0);
  sample.U64s({11, 12, 13});
  EXPECT_EQ(PeekIdentifier(sample.Header()), 11u);
  RecordBytes comm(PERF_RECORD_COMM, 0);
  comm.U64s({11, 12, 13});
  EXPECT_EQ(PeekIdentifier(comm.Header()), 13u);
  RecordBytes empty(PERF_RECORD_COMM, 0);
  EXPECT_EQ(PeekIdentifier(empty.Header()), std::nullopt);
}

TEST(RecordFormat, IsTakenFromTheAttr) {
  perf_event_attr attr{};
  attr.sample_type = 1;
  attr.read_format = 2;
  attr.branch_sample_type = 3;
  attr.sample_regs_user = 4;
  attr.sample_regs_intr = 5;
  attr.sample_id_all = 1;
  const RecordFormat expected{.sample_type = 1,
                              .read_format = 2,
                              .branch_sample_type = 3,
                              .sample_regs_user = 4,
                              .sample_regs_intr = 5,
                              .sample_id_all = true};
  EXPECT_EQ(RecordFormat::FromAttr(attr), expected);
}

}  // namespace
}  // namespace lbrd::pmu
