#include "daemon/joined_feed.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <utility>

#include "made_samples.h"

namespace lbrd::daemon {
namespace {

using ::testing::ElementsAre;

// Does what the test says.
class MadeFeed : public SessionFeed {
 public:
  explicit MadeFeed(std::string event, absl::Status at_begin = absl::OkStatus())
      : event_(std::move(event)), at_begin_(std::move(at_begin)) {}
  ~MadeFeed() override {
    if (done_) End(absl::OkStatus());
  }

  absl::Status Begin(absl::Duration, SampleSink* sink,
                     std::function<void(const absl::Status&)> done) override {
    if (!at_begin_.ok()) return at_begin_;
    sink_ = sink;
    done_ = std::move(done);
    if (on_begin) on_begin();
    return absl::OkStatus();
  }
  void RequestStop() override {
    ++stops;
    if (ends_when_asked && done_) End(absl::OkStatus());
  }
  FeedStats stats() const override {
    FeedStats out;
    out.source.samples = 3;
    out.source.kernel_count = 10;
    out.source.gaps = std::vector<pmu::CpuGap>(40);
    out.thinned = 1;
    return out;
  }
  std::vector<Progress> progress() const override { return {{.thread = event_}}; }
  void Describe(v1::Session* out) const override {
    out->add_events()->set_name(event_);
    out->add_notes("of all");
    out->mutable_flow()->set_name("flow-" + event_);
    out->set_cpus(2);
  }
  absl::Status Lend(int32_t,
                    const std::function<absl::Status(const pmu::LentEvent&)>&) const override {
    return absl::NotFoundError(event_);
  }

  void Send(uint64_t time) {
    const Sample sample = MakeSample(time);
    sink_->Deliver(std::span(&sample, 1));
  }
  void End(const absl::Status& status) { std::exchange(done_, nullptr)(status); }

  int stops = 0;
  bool ends_when_asked = true;
  std::function<void()> on_begin;

 private:
  const std::string event_;
  const absl::Status at_begin_;
  SampleSink* sink_ = nullptr;
  std::function<void(const absl::Status&)> done_;
};

class Sink : public SampleSink {
 public:
  void Deliver(std::span<const Sample> samples) override {
    for (const Sample& sample : samples) got.emplace_back(sample.time_ns, sample.event);
  }
  std::vector<std::pair<uint64_t, uint32_t>> got;
};

class JoinedFeedTest : public testing::Test {
 protected:
  explicit JoinedFeedTest(absl::Status second_at_begin = absl::OkStatus()) {
    auto a = std::make_unique<MadeFeed>("a");
    auto b = std::make_unique<MadeFeed>("b", std::move(second_at_begin));
    a_ = a.get();
    b_ = b.get();
    std::vector<std::unique_ptr<SessionFeed>> feeds;
    feeds.push_back(std::move(a));
    feeds.push_back(std::move(b));
    feed_ = std::make_unique<JoinedFeed>(std::move(feeds));
  }
  absl::Status Begin() {
    return feed_->Begin(absl::InfiniteDuration(), &sink_, [this](const absl::Status& status) {
      ++times_done_;
      done_ = status;
    });
  }

  MadeFeed* a_ = nullptr;
  MadeFeed* b_ = nullptr;
  Sink sink_;
  int times_done_ = 0;
  absl::Status done_;
  std::unique_ptr<JoinedFeed> feed_;
};

TEST_F(JoinedFeedTest, NumbersTheSamplesOfEachEvent) {
  ASSERT_TRUE(Begin().ok());
  a_->Send(1);
  b_->Send(2);
  a_->Send(3);
  EXPECT_THAT(sink_.got, ElementsAre(std::pair(1, 0), std::pair(2, 1), std::pair(3, 0)));
}

TEST_F(JoinedFeedTest, EndsWithItsLastEvent) {
  ASSERT_TRUE(Begin().ok());
  a_->End(absl::OkStatus());
  EXPECT_EQ(times_done_, 0);
  EXPECT_EQ(b_->stops, 0);
  b_->End(absl::OkStatus());
  EXPECT_EQ(times_done_, 1);
  EXPECT_TRUE(done_.ok());
}

TEST_F(JoinedFeedTest, AnErrorOfOneEndsTheOthers) {
  ASSERT_TRUE(Begin().ok());
  b_->ends_when_asked = false;
  a_->End(absl::InternalError("a broke"));
  EXPECT_EQ(b_->stops, 1);
  EXPECT_EQ(times_done_, 0);
  b_->End(absl::OkStatus());
  EXPECT_EQ(times_done_, 1);
  EXPECT_EQ(done_, absl::InternalError("a broke"));
}

TEST_F(JoinedFeedTest, IsStoppedAsAWhole) {
  ASSERT_TRUE(Begin().ok());
  feed_->RequestStop();
  EXPECT_EQ(times_done_, 1);
}

TEST_F(JoinedFeedTest, AStopBeforeTheLastHasBegunIsHeardByAll) {
  a_->on_begin = [this] { feed_->RequestStop(); };
  ASSERT_TRUE(Begin().ok());
  EXPECT_EQ(times_done_, 1);
}

TEST_F(JoinedFeedTest, AnErrorBeforeTheLastHasBegunEndsAll) {
  a_->on_begin = [this] { a_->End(absl::InternalError("a broke")); };
  ASSERT_TRUE(Begin().ok());
  EXPECT_EQ(times_done_, 1);
  EXPECT_EQ(done_, absl::InternalError("a broke"));
}

TEST_F(JoinedFeedTest, TellsTheSumAndEachEvent) {
  const FeedStats stats = feed_->stats();
  EXPECT_EQ(stats.source.samples, 6u);
  EXPECT_EQ(stats.thinned, 2u);
  EXPECT_EQ(stats.source.gaps.size(), pmu::kMaxGaps);
  // Units of different kinds.
  EXPECT_EQ(stats.source.kernel_count, 0u);
  v1::Session session;
  feed_->Describe(&session);
  ASSERT_EQ(session.events_size(), 2);
  EXPECT_EQ(session.events(1).name(), "b");
  EXPECT_EQ(session.events(1).count(), 10u);
  EXPECT_THAT(session.notes(), ElementsAre("of all", "b has a share in flow-b"));
  EXPECT_EQ(session.flow().name(), "flow-a");
  EXPECT_EQ(session.cpus(), 2u);
  EXPECT_EQ(feed_->progress().size(), 2u);
}

class JoinedFeedThatFails : public JoinedFeedTest {
 protected:
  JoinedFeedThatFails() : JoinedFeedTest(absl::NotFoundError("there is no process 1")) {}
};

TEST_F(JoinedFeedThatFails, LeavesNothingRunning) {
  EXPECT_EQ(Begin(), absl::NotFoundError("there is no process 1"));
  EXPECT_EQ(a_->stops, 1);
  EXPECT_EQ(times_done_, 0);
}

}  // namespace
}  // namespace lbrd::daemon
