// The endpoint of figures: the requests it gets, what it answers, and to whom.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <random>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "daemon/http_request.h"
#include "daemon/metrics_address.h"
#include "daemon/metrics_server.h"
#include "daemon/metrics_text.h"

namespace lbrd::daemon {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

std::string Answer(const std::string& head) {
  return AnswerHttp(head, [] { return std::string("page\n"); });
}

TEST(HttpRequestTest, ServesThePage) {
  for (const char* head : {"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "GET /metrics HTTP/1.0\n\n",
                           "GET /metrics?x=y HTTP/1.1\r\n\r\n"}) {
    EXPECT_THAT(Answer(head), AllOf(StartsWith("HTTP/1.0 200 OK\r\n"),
                                    HasSubstr("Content-Length: 5\r\n"), EndsWith("\r\n\r\npage\n")))
        << head;
  }
  EXPECT_THAT(Answer("HEAD /metrics HTTP/1.1\r\n\r\n"),
              AllOf(HasSubstr("Content-Length: 5\r\n"), EndsWith("\r\n\r\n")));
}

TEST(HttpRequestTest, RefusesTheRest) {
  const std::pair<std::string, const char*> refused[] = {
      {"GET / HTTP/1.1\r\n\r\n", "404"},
      {"GET /metricsx HTTP/1.1\r\n\r\n", "404"},
      {"POST /metrics HTTP/1.1\r\n\r\n", "405"},
      {"GET /metrics\r\n\r\n", "400"},
      {"GET /metrics HTTP/2\r\n\r\n", "400"},
      {"GET  /metrics HTTP/1.1\r\n\r\n", "400"},
      {"\r\n\r\n", "400"},
      {"GET /metrics HTTP/1.1\r\n", "400"},
      {std::string(kMaxHttpHeadBytes, 'x'), "431"},
      {std::string("GET /metrics HTTP/1.1\0\r\n\r\n", 26), "200"}};
  for (const auto& [head, code] : refused) {
    EXPECT_THAT(Answer(head), StartsWith(absl::StrCat("HTTP/1.0 ", code, " "))) << head;
  }
}

TEST(HttpRequestTest, AnyBytesGetOneWellFormedAnswer) {
  const std::string good = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n";
  std::mt19937 random(6);
  for (int round = 0; round < 50'000; ++round) {
    std::string head = good.substr(0, random() % (good.size() + 1));
    for (int edits = static_cast<int>(random() % 6); edits > 0 && !head.empty(); --edits) {
      const size_t at = random() % head.size();
      if (random() % 2 == 0) {
        head[at] = static_cast<char>(random());
      } else {
        head.insert(at, head.substr(random() % head.size()));
      }
    }
    const std::string answer = Answer(head);
    ASSERT_THAT(answer, StartsWith("HTTP/1.0 ")) << head;
    const size_t end = answer.find("\r\n\r\n");
    ASSERT_NE(end, std::string::npos) << head;
    // Nothing of the request comes back in the answer.
    ASSERT_LE(answer.size(), 400u) << head;
  }
}

TEST(MetricsTextTest, EveryFigureIsThere) {
  v1::DaemonStats stats;
  stats.set_version("1.2.3");
  stats.mutable_uptime()->set_seconds(61);
  stats.mutable_uptime()->set_nanos(5'000'000);
  stats.set_sessions_running(3);
  stats.set_contexts(120);
  stats.set_contexts_refused(7);
  stats.mutable_cpu_time()->set_seconds(2);
  stats.mutable_broker_cpu_time()->set_nanos(30'000'000);
  const std::string text = MetricsText(stats);
  EXPECT_THAT(text, HasSubstr("\nlbrd_build_info{version=\"1.2.3\"} 1\n"));
  EXPECT_THAT(text,
              HasSubstr("# TYPE lbrd_uptime_seconds gauge\nlbrd_uptime_seconds 61.005000000"));
  EXPECT_THAT(text, HasSubstr("\nlbrd_sessions{state=\"running\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("\nlbrd_sessions{state=\"failed\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("\nlbrd_contexts 120\n"));
  EXPECT_THAT(text, HasSubstr("counter\nlbrd_contexts_refused_total 7\n"));
  EXPECT_THAT(text, HasSubstr("counter\nlbrd_cpu_seconds_total 2.000000000\n"));
  EXPECT_THAT(text, HasSubstr("counter\nlbrd_broker_cpu_seconds_total 0.030000000\n"));
  // A figure without a row of its own is served all the same. What is not a number is not.
  int figures = 0;
  for (int i = 0; i < v1::DaemonStats::descriptor()->field_count(); ++i) {
    const google::protobuf::FieldDescriptor& field = *v1::DaemonStats::descriptor()->field(i);
    const google::protobuf::Descriptor* message = field.message_type();
    figures += !field.is_repeated() &&
               (message == nullptr || message == google::protobuf::Duration::descriptor());
  }
  EXPECT_THAT(text, Not(HasSubstr("lbrd_history")));  // there is none
  int numbers = 0;
  for (size_t at = 0; (at = text.find("\nlbrd_", at)) != std::string::npos; ++at) ++numbers;
  EXPECT_EQ(numbers, figures);
  EXPECT_TRUE(absl::EndsWith(text, "\n"));
}

TEST(MetricsTextTest, UnwindingHasItsFigures) {
  v1::DaemonStats stats;
  stats.mutable_unwinding()->set_rule_cache_hits(12);
  stats.mutable_unwinding()->set_tables(3);
  stats.mutable_unwinding()->add_stacks_by_verdict()->set_name("complete");
  const std::string text = MetricsText(stats);
  EXPECT_THAT(text, HasSubstr("counter\nlbrd_unwind_rule_cache_hits_total 12\n"));
  EXPECT_THAT(text, HasSubstr("gauge\nlbrd_unwind_tables 3\n"));
  EXPECT_THAT(text, Not(HasSubstr("untyped")));
}

TEST(MetricsTextTest, TheHistoryHasItsFigures) {
  v1::DaemonStats stats;
  stats.mutable_history()->set_path("/var/lib/lbrd/history.db");
  stats.mutable_history()->set_bytes(4096);
  stats.mutable_history()->set_samples_dropped(5);
  const std::string text = MetricsText(stats);
  EXPECT_THAT(text, HasSubstr("gauge\nlbrd_history_bytes 4096\n"));
  EXPECT_THAT(text, HasSubstr("counter\nlbrd_history_samples_dropped_total 5\n"));
  EXPECT_THAT(text, Not(HasSubstr("history.db")));
  EXPECT_THAT(text, Not(HasSubstr("# TYPE lbrd_history_bytes untyped")));
}

class MetricsServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = "/tmp/lbrd-metrics-test-XXXXXX";
    ASSERT_NE(mkdtemp(folder_.data()), nullptr);
    path_ = folder_ + "/metrics.sock";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::unique_ptr<MetricsServer> Listen() {
    const absl::StatusOr<int> listener = ListenForMetrics(UnixAddress{path_});
    EXPECT_TRUE(listener.ok()) << listener.status();
    return std::make_unique<MetricsServer>(*listener, [] { return std::string("page\n"); });
  }
  // 0, or -1.
  int Connect(int fd) const {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.data(), path_.size());
    return connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  }
  int Connect() const {
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(Connect(fd), 0);
    return fd;
  }
  bool SomebodyListens() const {
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool listens = Connect(fd) == 0;
    close(fd);
    return listens;
  }
  // All that comes until the server hangs up.
  static std::string ReadAll(int fd) {
    std::string text;
    char piece[4096];
    for (ssize_t got; (got = read(fd, piece, sizeof(piece))) > 0;) {
      text.append(piece, static_cast<size_t>(got));
    }
    close(fd);
    return text;
  }

  std::string folder_;
  std::string path_;
};

TEST_F(MetricsServerTest, ServesOneAfterTheOtherAndHangsUp) {
  {
    const auto server = Listen();
    struct stat status;
    ASSERT_EQ(stat(path_.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0600u);
    for (int i = 0; i < 3; ++i) {
      const int fd = Connect();
      // In two pieces.
      ASSERT_EQ(write(fd, "GET /metr", 9), 9);
      ASSERT_EQ(write(fd, "ics HTTP/1.0\r\n\r\n", 16), 16);
      EXPECT_THAT(ReadAll(fd), EndsWith("\r\n\r\npage\n"));
    }
  }
  EXPECT_FALSE(SomebodyListens());
}

TEST_F(MetricsServerTest, WhoDawdlesFloodsOrHangsUpKeepsNobodyElseOut) {
  const auto server = Listen();
  const int silent = Connect();
  const int half = Connect();
  ASSERT_EQ(write(half, "GET /", 5), 5);
  const int flood = Connect();
  const std::string much(4 * kMaxHttpHeadBytes, 'x');
  ASSERT_EQ(send(flood, much.data(), much.size(), MSG_NOSIGNAL), static_cast<ssize_t>(much.size()));
  close(Connect());
  const int good = Connect();
  ASSERT_EQ(write(good, "GET /metrics HTTP/1.0\r\n\r\n", 25), 25);
  EXPECT_EQ(ReadAll(silent), "");
  EXPECT_THAT(ReadAll(half), StartsWith("HTTP/1.0 400 "));
  EXPECT_THAT(ReadAll(flood), StartsWith("HTTP/1.0 431 "));
  EXPECT_THAT(ReadAll(good), EndsWith("page\n"));
}

TEST_F(MetricsServerTest, ReplacesADeadSocketAndNothingElse) {
  {
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.data(), path_.size());
    ASSERT_EQ(bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    close(fd);
  }
  Listen();
  ASSERT_EQ(unlink(path_.c_str()), 0);
  std::filesystem::create_directory(path_);
  EXPECT_FALSE(ListenForMetrics(UnixAddress{path_}).ok());
}

TEST(MetricsAddressTest, LoopbackOrAPath) {
  const auto tcp = ParseMetricsAddress("127.0.0.1:9477");
  ASSERT_TRUE(tcp.ok());
  EXPECT_EQ(std::get<TcpAddress>(*tcp).port, 9477);
  const auto six = ParseMetricsAddress("[::1]:80");
  ASSERT_TRUE(six.ok());
  EXPECT_TRUE(std::get<TcpAddress>(*six).ipv6);
  EXPECT_EQ(std::get<TcpAddress>(*six).host, "::1");
  EXPECT_EQ(std::get<UnixAddress>(*ParseMetricsAddress("/run/m")).path, "/run/m");
  for (const char* bad :
       {"", ":", "[]:1", "127.0.0.1", "127.0.0.1:-1", "10.0.0.1:1", "[::ffff:1.2.3.4]:1"}) {
    EXPECT_FALSE(ParseMetricsAddress(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace lbrd::daemon
