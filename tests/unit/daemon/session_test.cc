#include "daemon/session.h"

#include <gtest/gtest.h>

#include <thread>

#include "no_files.h"
#include "scripted_source.h"

namespace lbrd::daemon {
namespace {

class SessionTest : public ::testing::Test {
 protected:
  SessionSource Source(std::unique_ptr<ScriptedSource> records) {
    SessionSource source;
    source.records = std::move(records);
    source.events = {{.format = pmu::WireSampleFormat()}};
    source.cpus = 1;
    source.begin = [](pmu::RecordWriter*) { return absl::OkStatus(); };
    return source;
  }
  NoFiles files_;
  unwind::BinaryCache binaries_{&files_};
};

// More samples than a stream holds.
std::unique_ptr<ScriptedSource> Flood(bool patient) {
  auto records = std::make_unique<ScriptedSource>(patient);
  for (uint64_t i = 0; i < SampleStream::kMaxSamples + 10'000; ++i) {
    records->Add(pmu::Wire(pmu::WireSample{.time = i + 1}));
  }
  records->RunOn();
  return records;
}

TEST_F(SessionTest, StoppingARecordingDoesNotWaitForAReaderWhoNeverComes) {
  Session session("s", v1::SessionSpec(), Source(Flood(/*patient=*/true)), &binaries_);
  const auto stream = session.AddStream();
  ASSERT_TRUE(stream.ok());
  // Its worker fills the stream, and waits.
  v1::Session described;
  while (described.stats().samples_delivered() < SampleStream::kMaxSamples) {
    std::this_thread::yield();
    session.Describe(&described);
  }
  session.Stop();
  EXPECT_TRUE(session.ended());
  std::vector<Sample> samples;
  EXPECT_FALSE((*stream)->Pop(absl::ZeroDuration(), &samples)) << "the stream was cancelled";
}

TEST_F(SessionTest, AReaderWhoNeverComesLosesALiveSessionNothingButItsOwn) {
  Session session("s", v1::SessionSpec(), Source(Flood(/*patient=*/false)), &binaries_);
  const auto stream = session.AddStream();
  ASSERT_TRUE(stream.ok());
  v1::Session described;
  const auto accounted = [&] {
    session.Describe(&described);
    uint64_t dropped = 0;
    for (const v1::Count& count : described.stats().samples_dropped()) dropped += count.value();
    return described.stats().samples_delivered() + dropped;
  };
  while (accounted() < SampleStream::kMaxSamples + 10'000) std::this_thread::yield();
  session.Stop();
  accounted();
  EXPECT_EQ((*stream)->dropped(),
            described.stats().samples_delivered() - SampleStream::kMaxSamples);
}

}  // namespace
}  // namespace lbrd::daemon
