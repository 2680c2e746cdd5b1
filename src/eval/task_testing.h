// A text to make tasks of, for tests.
#ifndef TIDAL_EVAL_TASK_TESTING_H_
#define TIDAL_EVAL_TASK_TESTING_H_

#include <string>

#include "eval/task_text.h"

namespace tidal {

// 100 sentences of eight words each, all words different.
inline std::string PlainTextForTest() {
  std::string text;
  for (int i = 0; i < 800; ++i) {
    for (const int digit : {i / 100, i / 10 % 10, i % 10}) {
      text += "bdfgklmnpr"[digit];
      text += "ao"[digit % 2];
    }
    text += i % 8 == 7 ? ".\n" : " ";
  }
  return text;
}

inline TaskText TaskTextForTest() { return TaskText::Parse("test", PlainTextForTest()).value(); }

}  // namespace tidal

#endif  // TIDAL_EVAL_TASK_TESTING_H_
