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

TEST_F(ServerTest, HealthIsOfServicesThatThereAre) {
  using grpc::health::v1::HealthCheckResponse;
  const std::unique_ptr<Server> server = Listen();
  const auto stub = grpc::health::v1::Health::NewStub(
      grpc::CreateChannel(absl::StrCat("unix:", socket_), grpc::InsecureChannelCredentials()));
  const auto check = [&](const std::string& service) {
    grpc::ClientContext context;
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(service);
    HealthCheckResponse response;
    const grpc::Status status = stub->Check(&context, request, &response);
    return std::pair(status.error_code(), response.status());
  };
  EXPECT_EQ(check("lbrd.v1.Profiler"), std::pair(grpc::OK, HealthCheckResponse::SERVING));
  EXPECT_EQ(check("lbrd.v1.History").first, grpc::NOT_FOUND) << "this server has none";

  const auto watch = [&](const std::string& service, grpc::ClientContext* context) {
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(service);
    return stub->Watch(context, request);
  };
  grpc::ClientContext context, other_context, gone_context;
  HealthCheckResponse response;
  const auto known = watch("", &context);
  const auto unknown = watch("no.Such", &other_context);
  const auto gone = watch("", &gone_context);
  EXPECT_TRUE(gone->Read(&response));
  gone_context.TryCancel();
  ASSERT_TRUE(known->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVING);
  ASSERT_TRUE(unknown->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVICE_UNKNOWN);
  server->Shutdown(absl::Now() + absl::Seconds(5));
  ASSERT_TRUE(known->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);
  EXPECT_FALSE(known->Read(&response));
  EXPECT_FALSE(unknown->Read(&response));
}

TEST_F(ServerTest, HealthIsWatchedByAsManyAsThereAreThreadsFor) {
  const std::unique_ptr<Server> server = Listen();
  std::vector<std::unique_ptr<grpc::health::v1::Health::Stub>> stubs;
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<grpc::health::v1::HealthCheckResponse>>> watches;
  grpc::health::v1::HealthCheckResponse response;
  for (int i = 0; i <= HealthService::kMaxWatches; ++i) {
    if (i % 8 == 0) {  // a connection has so many RPCs at a time, and not many more
      grpc::ChannelArguments own;
      own.SetInt("connection", i);
      stubs.push_back(grpc::health::v1::Health::NewStub(grpc::CreateCustomChannel(
          absl::StrCat("unix:", socket_), grpc::InsecureChannelCredentials(), own)));
    }
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    watches.push_back(stubs.back()->Watch(contexts.back().get(), {}));
    EXPECT_EQ(watches.back()->Read(&response), i < HealthService::kMaxWatches) << i;
  }
  EXPECT_EQ(watches.back()->Finish().error_code(), grpc::RESOURCE_EXHAUSTED);
  for (auto& context : contexts) context->TryCancel();
  // Their places are free again within a tick.
  bool again = false;
  for (int i = 0; i < 100 && !again; ++i) {
    grpc::ClientContext context;
    again = stubs[0]->Watch(&context, {})->Read(&response);
    if (!again) absl::SleepFor(absl::Milliseconds(100));
    context.TryCancel();
  }
  EXPECT_TRUE(again);
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
