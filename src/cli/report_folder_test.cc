#include "cli/report_folder.h"

#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sstream>
#include <unistd.h>

namespace tidal {
namespace {

using testing::HasSubstr;

class ReportFolderTest : public testing::Test {
 protected:
  ReportFolderTest() {
    std::string name = testing::TempDir() + "/tidal_report_XXXXXX";
    EXPECT_NE(mkdtemp(name.data()), nullptr);
    root_ = name;
  }
  ~ReportFolderTest() override {
    std::error_code ignored;
    std::filesystem::remove_all(root_, ignored);
  }
  std::string Path(const std::string& name) const { return (root_ / name).string(); }

  std::filesystem::path root_;
};

ReportRun RunOf(const std::string& command) {
  ReportRun run;
  run.command = command;
  return run;
}

TEST_F(ReportFolderTest, RunsAreGatheredInOneFolder) {
  for (const char* command : {"one", "two"}) {
    Result<ReportFolder> folder = ReportFolder::Open(Path("out"));
    ASSERT_TRUE(folder.ok()) << folder.status().message();
    folder->report().Add(RunOf(command), TaskResult());
    const Status status = folder->Write();
    ASSERT_TRUE(status.ok()) << status.message();
    EXPECT_TRUE(std::filesystem::exists(folder->PagePath()));
  }
  std::stringstream json;
  json << std::ifstream(Path("out/report.json")).rdbuf();
  EXPECT_THAT(json.str(), HasSubstr("\"one\""));
  EXPECT_THAT(json.str(), HasSubstr("\"two\""));
}

TEST_F(ReportFolderTest, WhatCannotBeUsedIsSaidBeforeTheWork) {
  std::ofstream(Path("file")) << "x";
  EXPECT_THAT(ReportFolder::Open(Path("file")).status().message(), HasSubstr("--report"));
  EXPECT_THAT(ReportFolder::Open(Path("no/such/parent")).status().message(),
              HasSubstr("cannot make this folder"));
  std::filesystem::create_directory(Path("other"));
  std::ofstream(Path("other/report.json")) << "[]";
  const Status status = ReportFolder::Open(Path("other")).status();
  EXPECT_EQ(status.code(), StatusCode::kCorrupt);
  EXPECT_THAT(status.message(), HasSubstr("other/report.json"));
}

TEST_F(ReportFolderTest, AFullDiskIsAnError) {
  Result<ReportFolder> folder = ReportFolder::Open(Path("full"));
  ASSERT_TRUE(folder.ok()) << folder.status().message();
  std::filesystem::create_symlink("/dev/full", Path("full/report.html"));
  const Status status = folder->Write();
  EXPECT_EQ(status.code(), StatusCode::kIo);
  EXPECT_THAT(status.message(), HasSubstr("report.html"));
}

}  // namespace
}  // namespace tidal
