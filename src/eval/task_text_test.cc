#include "eval/task_text.h"

#include <gmock/gmock.h>
#include <set>

#include "eval/task_testing.h"

namespace tidal {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(TaskTextTest, CutsSentencesAndCollectsWords) {
  const TaskText text = TaskTextForTest();
  EXPECT_EQ(text.num_sentences(), 100);
  EXPECT_EQ(text.words().size(), 800U);
  EXPECT_THAT(text.Sentences(99, 2),
              ElementsAre("norofa norogo noroka norolo noroma norono noropa nororo.",
                          "bababa babado babafa babago babaka babalo babama babano."))
      << "the last sentence is followed by the first";
}

TEST(TaskTextTest, CutsWhatHasNoFullStopsAfterFortyWords) {
  std::string text = PlainTextForTest();
  for (char& c : text)
    if (c == '.') c = ' ';
  EXPECT_EQ(TaskText::Parse("t", text)->num_sentences(), 20);
}

TEST(TaskTextTest, RefusesWhatIsNoTextOrTooShort) {
  EXPECT_THAT(TaskText::Parse("t.txt", "a\xff").status().message(),
              HasSubstr("t.txt: byte 1 is not UTF-8"));
  EXPECT_THAT(TaskText::Parse("t.txt", "Short text. It is.").status().message(),
              HasSubstr("t.txt: 2 sentences and 1 different words"));
  EXPECT_THAT(TaskText::Parse("t.txt", "").status().message(), HasSubstr("0 sentences"));
}

TEST(TaskTextTest, DrawsDifferentWordsBeyondThoseOfTheText) {
  const TaskText text = TaskTextForTest();
  for (const int64_t count : {1, 800, 801, 5000}) {
    TaskRandom random(1, "words");
    const std::vector<std::string> words = text.DrawWords(count, &random);
    EXPECT_EQ(std::set<std::string>(words.begin(), words.end()).size(), words.size());
    EXPECT_EQ(words.size(), static_cast<size_t>(count));
  }
}

TEST(TaskRandomTest, IsTheSameOnEveryPlatform) {
  // Written down on one machine: they must not change, or saved seeds mean other prompts.
  TaskRandom random(42, "stream");
  EXPECT_EQ(DrawNumber(7, &random), "2488338");
  EXPECT_EQ(DrawUuid(&random), "19f86a5d-71b2-41b1-a76c-9270a2ebf7e9");
  TaskRandom other(42, "streams");
  EXPECT_NE(DrawNumber(7, &other), "2488338");
}

TEST(TaskRandomTest, CoversItsRange) {
  TaskRandom random(7, "range");
  std::set<int64_t> seen;
  for (int i = 0; i < 1000; ++i) seen.insert(random.Below(10));
  EXPECT_EQ(seen.size(), 10U);
  EXPECT_EQ(*seen.begin(), 0);
  EXPECT_EQ(*seen.rbegin(), 9);
}

}  // namespace
}  // namespace tidal
