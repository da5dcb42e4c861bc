#include "daemon/server.h"

#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "daemon/unix_listener.h"

namespace lbrd::daemon {
namespace {

using ::testing::HasSubstr;

class ServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
#ifdef LBRD_TSAN
    GTEST_SKIP() << "gRPC is not instrumented: its hand-overs look like races";
#endif
    folder_ = "/tmp/lbrd-server-test-XXXXXX";
    ASSERT_NE(mkdtemp(folder_.data()), nullptr);
    socket_ = absl::StrCat(folder_, "/below/lbrd.sock");
  }
  void TearDown() override {
    if (!folder_.empty()) std::filesystem::remove_all(folder_);
  }

  std::unique_ptr<Server> Listen() {
    absl::StatusOr<std::unique_ptr<Server>> server =
        Server::Listen(socket_, kEverybody, &service_, nullptr, &authenticator_);
    EXPECT_TRUE(server.ok()) << server.status();
    return *std::move(server);
  }

  // One message there and one back, as bytes: what any client in any language would send.
  std::string Call(const std::string& method, const std::string& request) {
    grpc::GenericStub stub(
        grpc::CreateChannel(absl::StrCat("unix:", socket_), grpc::InsecureChannelCredentials()));
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    grpc::CompletionQueue queue;
    const auto wait = [&queue] {
      void* tag = nullptr;
      bool ok = false;
      return queue.Next(&tag, &ok) && ok;
    };
    const auto call = stub.PrepareCall(&context, method, &queue);
    call->StartCall(nullptr);
    EXPECT_TRUE(wait());
    const grpc::Slice slice(request);
    call->Write(grpc::ByteBuffer(&slice, 1), nullptr);
    EXPECT_TRUE(wait());
    grpc::ByteBuffer answer;
    call->Read(&answer, nullptr);
    EXPECT_TRUE(wait());
    call->WritesDone(nullptr);
    wait();
    grpc::Status status;
    call->Finish(&status, nullptr);
    wait();
    EXPECT_TRUE(status.ok()) << status.error_message();
    std::vector<grpc::Slice> slices;
    std::string text;
    if (answer.Dump(&slices).ok()) {
      for (const grpc::Slice& part : slices) {
        text.append(reinterpret_cast<const char*>(part.begin()), part.size());
      }
    }
    return text;
  }

  v1::Profiler::Service service_;
  Authenticator authenticator_;
  std::string folder_;
  std::string socket_;
};

TEST_F(ServerTest, AnswersHealthChecks) {
  const std::unique_ptr<Server> server = Listen();
  // HealthCheckResponse{status: SERVING}.
  EXPECT_EQ(Call("/grpc.health.v1.Health/Check", ""), "\x08\x01");
  server->Shutdown(absl::Now() + absl::Seconds(5));
}

TEST_F(ServerTest, ReflectsItsService) {
  const std::unique_ptr<Server> server = Listen();
  // ServerReflectionRequest{list_services: "*"}.
  EXPECT_THAT(Call("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "\x3a\x01*"),
              HasSubstr("lbrd.v1.Profiler"));
  server->Shutdown(absl::Now() + absl::Seconds(5));
}

TEST_F(ServerTest, TheSocketIsForWhomItIsMeant) {
  for (const mode_t mode : {kOwnerOnly, kEverybody}) {
    absl::StatusOr<std::unique_ptr<Server>> server =
        Server::Listen(socket_, mode, &service_, nullptr, &authenticator_);
    ASSERT_TRUE(server.ok()) << server.status();
    struct stat status;
    ASSERT_EQ(lstat(socket_.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, mode);
    (*server)->Shutdown(absl::Now() + absl::Seconds(5));
    EXPECT_NE(lstat(socket_.c_str(), &status), 0) << "left behind";
  }
}

TEST_F(ServerTest, ServesASocketThatListensAlready) {
  const absl::StatusOr<int> listener = ListenOnUnixSocket(socket_, kEverybody);
  ASSERT_TRUE(listener.ok()) << listener.status();
  auto server = Server::Serve(*listener, "", &service_, nullptr, &authenticator_);
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_EQ(Call("/grpc.health.v1.Health/Check", ""), "\x08\x01");
  (*server)->Shutdown(absl::Now() + absl::Seconds(5));
  struct stat status;
  EXPECT_EQ(lstat(socket_.c_str(), &status), 0) << "it is not ours to remove";
}

TEST_F(ServerTest, RefusesASecondDaemonAndAFileInTheWay) {
  const std::unique_ptr<Server> server = Listen();
  EXPECT_TRUE(absl::IsAlreadyExists(
      Server::Listen(socket_, kEverybody, &service_, nullptr, &authenticator_).status()));
  const std::string file = absl::StrCat(folder_, "/file");
  std::ofstream(file) << "precious";
  EXPECT_TRUE(absl::IsFailedPrecondition(
      Server::Listen(file, kEverybody, &service_, nullptr, &authenticator_).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(
      Server::Listen(std::string(200, 'x'), kEverybody, &service_, nullptr, &authenticator_)
          .status()));
  server->Shutdown(absl::Now() + absl::Seconds(5));
}

}  // namespace
}  // namespace lbrd::daemon
